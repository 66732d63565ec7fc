// View of a kernel: one term, the sum of the first terms and the remainder, chosen by a slider.
import { barsAndLine, map, percent, rows } from "./charts.js";

const byId = (id) => document.getElementById(id);

// Arrange the planes of a volume side by side.
function sheet(values) {
  if (typeof values[0] === "number") return [values];
  if (typeof values[0][0] === "number") return values;
  const across = Math.ceil(Math.sqrt(values.length));
  const [height, width] = [values[0].length, values[0][0].length];
  const down = Math.ceil(values.length / across);
  const out = Array.from({ length: down * height }, () => new Array(across * width).fill(0));
  values.forEach((plane, i) => plane.forEach((row, y) => row.forEach((v, x) => {
    out[Math.floor(i / across) * height + y][(i % across) * width + x] = v;
  })));
  return out;
}

function product(term) {
  const [first, ...rest] = term;
  if (!rest.length) return first;
  const inner = product(rest);
  const times = (v, t) => (typeof t === "number" ? v * t : t.map((u) => times(v, u)));
  return first.map((v) => times(v, inner));
}

const combine = (a, b, f) => (typeof a === "number" ? f(a, b) : a.map((v, i) => combine(v, b[i], f)));

export function apart(found) {
  const terms = found.terms.length;
  byId("rank").max = Math.max(1, terms);
  byId("rank").value = 1;
  byId("rank").disabled = terms < 2;
  showTerms(found, true);
  showSpectrum(found);
  showCounts(found);
}

export function showTerms(found, fresh) {
  const kernel = sheet(found.values);
  const reach = Math.max(...kernel.flat().map(Math.abs));
  const signed = kernel.flat().some((v) => v < 0);
  map(byId("whole"), kernel, { label: `kernel of ${found.shape.join(" by ")}`, reach, signed, numbers: true });
  byId("whole-caption").textContent = `kernel ${found.shape.join(" x ")}`;
  const rank = Number(byId("rank").value);
  for (const name of ["term", "sum", "rest"]) document.querySelector(`.strips .${name}`).hidden = !found.terms.length;
  byId("rank-out").textContent = found.terms.length ? `${rank} of ${found.rank}` : "";
  byId("rank-text").textContent = "";
  if (!found.terms.length) return;
  drawStrips(found, rank, reach, signed);
  const sum = found.terms.slice(0, rank).map(product).reduce((a, b) => combine(a, b, (u, v) => u + v));
  map(byId("sum"), sheet(sum), { label: `sum of the first ${rank} terms`, reach, signed, numbers: true });
  map(byId("rest"), sheet(combine(found.values, sum, (u, v) => u - v)), { label: "remainder: kernel minus sum", reach, signed: true, numbers: true });
  byId("sum-caption").textContent = rank === 1 ? "the first term" : `the first ${rank} terms`;
  byId("rank-text").textContent = rankText(found, rank);
  if (!fresh) return;
  const strips = byId("strips");
  strips.classList.remove("come");
  void strips.offsetWidth;
  strips.classList.add("come");
}

function drawStrips(found, rank, reach, kernelSigned) {
  const signed = kernelSigned || found.terms[rank - 1].flat().some((v) => v < 0); // one scale for all
  const frame = byId("frame");
  const plane = found.shape.length === 2;
  frame.replaceChildren();
  frame.classList.toggle("stack", !plane);
  const small = Math.max(...found.shape) <= 9; // the numbers are in the cells
  frame.style.gridTemplateColumns = plane && small ? `1fr ${found.shape[1]}fr` : "";
  const strips = found.terms[rank - 1].map((strip, k) => {
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    const upright = plane && k === 0;
    const numbers = strip.map((v) => +v.toPrecision(3)).slice(0, 15).join(", ");
    map(canvas, upright ? strip.map((v) => [v]) : [strip], { label: `factor ${found.letters[k]} of term ${rank}: ${numbers}`, numbers: small, signed });
    if (!upright && !small) canvas.style.height = plane ? "1.1rem" : "1.4rem";
    return canvas;
  });
  byId("term-caption").textContent = `term ${rank}: ${found.letters.join(" \u00d7 ")}`;
  if (!plane) {
    frame.append(...strips);
    return;
  }
  const corner = document.createElement("span");
  corner.className = "corner";
  const whole = document.createElement("canvas");
  whole.setAttribute("role", "img");
  map(whole, product(found.terms[rank - 1]), { label: `term ${rank}: the column times the row`, reach, signed, numbers: true });
  strips[0].className = "column";
  frame.append(corner, strips[1], strips[0], whole);
}

// Say how good the sum of the first terms is, and what it costs.
function rankText(found, rank) {
  const { dense, nonzero, passes } = found.multiplications;
  const sample = found.shape.length === 2 ? "pixel" : "voxel";
  const zeros = nonzero === dense ? "" : ` (${nonzero} of its weights are not zero)`;
  const count = `${passes[rank - 1]} multiplications per ${sample}; dense needs ${dense}${zeros}.`;
  if (rank >= found.rank) return rank === 1 ? `One term is exact. ${count}` : `${rank} terms are exact. ${count}`;
  const error = percent(found.errors[Math.min(rank, found.errors.length - 1)]);
  const bound = found.bounds[rank];
  const limit = bound <= 1 ? `Every output is within ${percent(bound)} of sum|kernel| x max|image|.` : "The bound says nothing here; try more terms.";
  return `${rank === 1 ? "One term misses" : `${rank} terms miss`} ${error} of the kernel (Frobenius norm). ${limit} ${count}`;
}

// Say which computer the predicted times are for.
export function ratesText(plan) {
  const threads = `${plan.threads} thread${plan.threads > 1 ? "s" : ""}`;
  return `Predicted with ${threads}. Rates: ${plan.machine.replaceAll("`", "")}.`;
}

function showSpectrum(found) {
  if (!found.spectrum.length) {
    byId("spectrum").textContent = found.shape.length === 1 ? "One axis has no spectrum." : "The kernel is zero everywhere.";
    return;
  }
  const largest = found.spectrum[0] || 1;
  const errors = found.errors.slice(1, 8).map(percent).join(", ");
  barsAndLine(byId("spectrum"), found.spectrum.map((v) => v / largest), found.errors, { label: `Spectrum: rank ${found.rank}; error with 1, 2, ... terms: ${errors}`, name: "term" });
}

function showCounts(found) {
  const sentence = found.multiplications.sentence;
  byId("count-text").textContent = sentence ? `${sentence[0].toUpperCase()}${sentence.slice(1)}.` : "";
  const { dense, passes } = found.multiplications;
  const shown = passes.map((v, i) => ({ name: `${i + 1} term${i ? "s" : ""}`, value: v })).slice(0, 10);
  const exact = found.rank <= passes.length ? found.rank : -1;
  const counts = shown.map((s) => `${s.name} ${s.value}`).join("; ");
  rows(byId("counts"), [{ name: "dense", value: dense, pale: true }, ...shown], { label: `Multiplications: dense ${dense}; ${counts}`, marked: exact });
}
