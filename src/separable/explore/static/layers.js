// Layers view: the cost of one layer, drawn, and of a whole network.
import { bytes, curve, quantity, rows, table } from "./charts.js";
import { ask } from "./api.js";
import { recall, remember } from "./address.js";
import { attempt, options } from "./status.js";
import { drawLayer } from "./layer_drawing.js";

const $ = (id) => document.getElementById(id);
let shown = null; // the layer of the drawing
const FIELDS = ["input", "channels", "filters", "kernel", "multiplier", "stride", "padding"];

export function start(offered) {
  for (const name of FIELDS) if (recall(`layer-${name}`)) $(`layer-${name}`).value = recall(`layer-${name}`);
  $("layer-form").addEventListener("submit", (event) => { event.preventDefault(); count(); });
  $("layer-form").addEventListener("change", count);
  $("layer-place").addEventListener("input", draw);
  count();
  if (!$("network")) return;
  const names = offered.networks;
  options($("network"), names.length ? names.map((n) => [n, n]) : [["", "needs PyTorch"]]);
  $("network").disabled = !names.length;
  $("network").addEventListener("change", network);
  if (names.length) network();
}

function draw() {
  const plane = shown.output.slice(-2);
  const places = plane.reduce((a, b) => a * b, 1);
  const place = $("layer-place");
  place.max = places - 1;
  drawLayer($("layer-drawing"), shown, Number(place.value));
  const right = plane[plane.length - 1];
  $("layer-place-out").textContent = plane.length > 1 ? `row ${Math.floor(place.value / right) + 1}, column ${(place.value % right) + 1}` : `${Number(place.value) + 1} of ${places}`;
}

const whole = (v) => v.toLocaleString("en");

async function count() {
  const number = (name) => Number($(`layer-${name}`).value);
  const asked = {
    input: $("layer-input").value.trim().split(/[\s,x]+/).map(Number), channels: number("channels"), filters: number("filters"),
    kernel: number("kernel"), multiplier: number("multiplier"), stride: number("stride"), padding: $("layer-padding").value,
  };
  const found = await attempt("layer-problem", () => ask("layer", asked), "layer-drawing", "layer-table");
  if (!found) return;
  remember(Object.fromEntries(FIELDS.map((name) => [`layer-${name}`, $(`layer-${name}`).value])));
  const { dense, depthwise, pointwise, separable } = found;
  const times = found.ratio >= 1 ? `${found.ratio.toPrecision(3)} times fewer multiplications` : `${(1 / found.ratio).toPrecision(3)} times more multiplications`;
  $("layer-verdict").textContent = `${whole(dense.multiplications)} multiplications dense, ${whole(separable.multiplications)} separable: ${times}.`;
  const counts = { dense: dense.multiplications, depthwise: depthwise.multiplications, pointwise: pointwise.multiplications, separable: separable.multiplications };
  shown = { ...asked, output: found.output, counts };
  draw();
  $("layer-sentence").textContent = `${found.sentence[0].toUpperCase()}${found.sentence.slice(1)}. An output is one of the ${whole(asked.filters)} values at each position.`;
  const lines = [["multiplications", "multiplications", whole], ["parameters", "parameters", whole], ["activations moved", "activation_bytes", bytes], ["weights moved", "weight_bytes", bytes], ["multiplications per byte", "per_byte", quantity]];
  table($("layer-table"), ["~", "dense", "separable", "-depthwise", "-pointwise"], lines.map(([name, key, format]) => ({ cells: [name, ...[dense, separable, depthwise, pointwise].map((c) => format(c[key]))] })));
  $("layer-text").textContent = multiplierText(found);
  $("layer-spatial").textContent = found.spatial ? spatialText(found, asked) : "";
  const { curves } = found;
  const share = 1 / found.ratio;
  const yLabel = "separable / dense";
  curve($("curve-kernel"), curves.kernel, { label: "cost ratio over kernel size", xLabel: "K, kernel size", yLabel, logX: true, rule: 1, mark: [asked.kernel, share] });
  curve($("curve-filters"), curves.filters, { label: "cost ratio over filters", xLabel: "C_out, filters", yLabel, logX: true, rule: 1, mark: [asked.filters, share] });
  curve($("curve-multiplier"), curves.multiplier, { label: "cost ratio over depth multiplier", xLabel: "M, depth multiplier", yLabel, rule: 1, mark: asked.multiplier <= 16 ? [asked.multiplier, share] : null });
}

// Say up to which depth multiplier the separable layer is cheaper, and from which it is exact.
function multiplierText(found) {
  const exact = `A depth multiplier of ${found.exact_from} reproduces any dense layer of this size exactly.`;
  if (found.break_even >= 1) return `The separable layer is cheaper up to a depth multiplier of ${Math.floor(found.break_even)}. ${exact}`;
  if (found.exact_from === 1) return "A depth multiplier of 1 already costs more than the dense layer here; it would reproduce any dense layer of this size exactly.";
  return `A depth multiplier of 1 already costs more than the dense layer here. ${exact}`;
}

// With one channel and one filter the kernel is a filter of an image, which may separate in space.
function spatialText({ spatial, dense }, { kernel }) {
  const passes = spatial.passes.map(whole).join(" + ");
  const sizes = spatial.passes.map((_, k) => spatial.passes.map((__, j) => (j === k ? kernel : 1)).join("x")).join(", then ");
  return `With one channel and one filter a kernel may separate in space instead: ${sizes} needs ${passes} = ${whole(spatial.multiplications)} multiplications, ${(dense.multiplications / spatial.multiplications).toPrecision(3)} times fewer. Each later pass runs on a smaller image.`;
}

async function network() {
  const found = await attempt("ledger-problem", () => ask("ledger", { network: $("network").value }), "ledger", "ledger-chart", "ledger-text");
  if (!found) return;
  const { total } = found;
  $("ledger-text").textContent = `${found.model} at ${found.inputs.join(", ")}: ${quantity(total.macs)} multiply-adds, ${quantity(total.parameters)} parameters, ${quantity(total.per_byte)} multiplications per byte moved.`;
  const largest = [...found.rows].sort((a, b) => b.multiplications - a.multiplications).slice(0, 12);
  rows($("ledger-chart"), largest.map((r) => ({ name: r.name, value: r.multiplications })), { label: `The layers with the most multiplications: ${largest.slice(0, 5).map((r) => `${r.name} ${quantity(r.multiplications)}`).join("; ")}` });
  table($("ledger"), ["~layer", "mult", "params", "-moved", "-output"], found.rows.map((r) => ({ cells: [{ text: r.name, note: r.kind }, quantity(r.multiplications), quantity(r.parameters), bytes(r.bytes), r.output] })));
}
