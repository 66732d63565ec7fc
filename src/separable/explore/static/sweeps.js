// Larger kernels: multiplications and time of dense sums, passes and FFTs; and what limits each method.
import { lines, quantity, seconds } from "./charts.js";
import { ask } from "./api.js";
import { attempt } from "./status.js";

const $ = (id) => document.getElementById(id);
const LOOKS = { dense: "quiet", passes: "main", FFT: "accent" };
const SIZES = [3, 5, 9, 15, 31, 61, 101]; // marks of the axis

export function startSweep(measure) {
  $("sweep-measure")?.addEventListener("click", measure);
}

export async function sweep(found, shape, dtype, measure = false) {
  if (!found || found.shape.length < 2) {
    for (const id of ["sweep-counts", "sweep-times"]) $(id).replaceChildren();
    $("sweep-text").textContent = "A kernel with one axis is a single pass at every size.";
    return;
  }
  const question = { rank: Math.max(1, found.rank), shape: shape ? shape.value.trim().split(/[\s,x]+/).map(Number) : null, ndim: found.shape.length, dtype: dtype?.value || "float32", measure };
  const answer = await attempt("sweep-problem", () => ask("sweep", question), "sweep-counts", "sweep-times", "sweep-text");
  if (answer) show(answer);
}

function show({ ndim, rank, shape, sizes, multiplications, seconds: predicted, measured, machine, crossing, note }) {
  const power = ["", "K", "K\u00b2", "K\u00b3"][ndim];
  const names = { dense: `dense, ${power}`, passes: `${rank === 1 ? "" : `${rank} terms, `}passes, ${rank * ndim} K`, FFT: "FFT" };
  const points = (values) => sizes.map((n, i) => [n, values[i] ?? 0]);
  const axis = { xLabel: "kernel size K along each axis", xTicks: SIZES.filter((n) => n <= sizes[sizes.length - 1]), formatX: String };
  const told = (values, format) => Object.keys(names).map((way) => `${names[way]}: ${format(values[way][0])} at K = ${sizes[0]}, ${format(values[way][sizes.length - 1])} at K = ${sizes[sizes.length - 1]}`).join("; ");
  lines($("sweep-counts"), Object.keys(names).map((way) => ({ name: names[way], look: LOOKS[way], points: points(multiplications[way]) })),
    { ...axis, yLabel: "multiplications per output", formatY: quantity, label: `Multiplications per output against kernel size. ${told(multiplications, quantity)}` });
  const curves = Object.keys(names).map((way) => ({ name: `${way}, predicted`, look: LOOKS[way], dashed: true, points: points(predicted[way]) }));
  for (const [way, found] of Object.entries(measured || {})) if (found.length) curves.push({ name: `${way}, measured`, look: LOOKS[way], dots: true, points: found });
  const rule = crossing ? { at: crossing, text: `FFT from K = ${crossing} on` } : null;
  lines($("sweep-times"), curves, { ...axis, yLabel: "time", formatY: seconds, rule, label: `Time against kernel size. ${told(predicted, seconds)}` });
  const where = crossing ? `The FFT is predicted to be faster than passes from K = ${crossing} on.` : `Passes are predicted to be faster than the FFT at every size up to ${sizes[sizes.length - 1]}.`;
  $("sweep-text").textContent = `Kernels of ${rank === 1 ? "one separable term" : `${rank} separable terms`} on an image of ${shape.join(" x ")}. ${where} ${note || ""} Rates: ${machine.replaceAll("`", "")}.`;
}

// Each method as a point below the roof that memory and arithmetic set.
export function showRoofline({ rows, measured, roof }, shape) {
  const outputs = shape.reduce((a, b) => a * b, 1);
  const run = rows.filter((r) => r.multiplications && r.bytes && (measured?.[r.name] || r.seconds));
  const at = (r) => [(r.multiplications * outputs) / r.bytes, (r.multiplications * outputs) / (measured?.[r.name] || r.seconds)];
  const points = run.map(at);
  if (!points.length) return $("roofline").replaceChildren();
  const series = run.map((r, i) => ({ name: `${r.title}${measured?.[r.name] ? ", measured" : ", predicted"}`, look: r.chosen ? "main" : "quiet", dots: true, points: [points[i]], marks: [r.title] }));
  if (roof) {
    const ridge = roof.multiplications / roof.bytes;
    const [low, high] = [Math.min(ridge, ...points.map((p) => p[0])) / 2, Math.max(ridge, ...points.map((p) => p[0])) * 2];
    series.unshift({ name: "roof: memory, then arithmetic", look: "accent", points: [[low, low * roof.bytes], [ridge, roof.multiplications], [high, roof.multiplications]] });
  }
  const told = run.map((r, i) => `${r.title} ${quantity(points[i][0])} multiplications per byte, ${quantity(points[i][1])} per second`).join("; ");
  lines($("roofline"), series, { label: `Roofline. ${told}`, xLabel: "multiplications per byte moved", yLabel: "multiplications per second", formatX: quantity, formatY: quantity });
  $("roofline-text").textContent = roof
    ? "On the slope memory is the limit: there, fewer multiplications save no time. On the flat part arithmetic is the limit. Further up is not faster: what counts is the time in the table."
    : "The rates of this computer's memory and arithmetic are not known; run separable machine to measure them.";
}
