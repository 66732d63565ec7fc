// Layers view: the cost of one layer and of a whole network.
import { bytes, curve, quantity, rows, table } from "./charts.js";
import { ask, attempt, options } from "./api.js";

const $ = (id) => document.getElementById(id);

export function start(offered) {
  $("layer-form").addEventListener("submit", (event) => { event.preventDefault(); count(); });
  $("layer-form").addEventListener("change", count);
  count();
  const names = offered.networks;
  options($("network"), names.length ? names.map((n) => [n, n]) : [["", "needs PyTorch"]]);
  $("network").disabled = !names.length;
  $("network").addEventListener("change", network);
  if (names.length) network();
}

async function count() {
  const number = (id) => Number($(id).value);
  const asked = {
    input: $("layer-input").value.trim().split(/[\s,x]+/).map(Number), channels: number("layer-channels"), filters: number("layer-filters"),
    kernel: number("layer-kernel"), multiplier: number("layer-multiplier"), stride: number("layer-stride"), padding: $("layer-padding").value,
  };
  const found = await attempt("layer-problem", () => ask("layer", asked));
  if (!found) return;
  const { dense, separable } = found;
  const times = found.ratio >= 1 ? `${found.ratio.toPrecision(3)} times fewer multiplications` : `${(1 / found.ratio).toPrecision(3)} times more multiplications`;
  $("layer-verdict").textContent = `${dense.multiplications.toLocaleString("en")} multiplications dense, ${separable.multiplications.toLocaleString("en")} separable: ${times}.`;
  const lines = [["multiplications", "multiplications", (v) => v.toLocaleString("en")], ["parameters", "parameters", (v) => v.toLocaleString("en")], ["activations moved", "activation_bytes", bytes], ["weights moved", "weight_bytes", bytes], ["multiplications per byte", "per_byte", quantity]];
  table($("layer-table"), ["~", "dense", "separable"], lines.map(([name, key, format]) => ({ cells: [name, format(dense[key]), format(separable[key])] })));
  $("layer-text").textContent = multiplierText(found);
  const { curves } = found;
  const share = 1 / found.ratio;
  const yLabel = "separable / dense";
  curve($("curve-kernel"), curves.kernel, { label: "cost ratio over kernel size", xLabel: "kernel size", yLabel, logX: true, rule: 1, mark: [asked.kernel, share] });
  curve($("curve-filters"), curves.filters, { label: "cost ratio over filters", xLabel: "filters", yLabel, logX: true, rule: 1, mark: [asked.filters, share] });
  curve($("curve-multiplier"), curves.multiplier, { label: "cost ratio over depth multiplier", xLabel: "depth multiplier", yLabel, rule: 1, mark: asked.multiplier <= 16 ? [asked.multiplier, share] : null });
}

// Say up to which depth multiplier the separable layer is cheaper, and from which it is exact.
function multiplierText(found) {
  const exact = `A depth multiplier of ${found.exact_from} reproduces any dense layer of this size exactly.`;
  if (found.break_even >= 1) return `The separable layer is cheaper up to a depth multiplier of ${Math.floor(found.break_even)}. ${exact}`;
  if (found.exact_from === 1) return "A depth multiplier of 1 already costs more than the dense layer here; it would reproduce any dense layer of this size exactly.";
  return `A depth multiplier of 1 already costs more than the dense layer here. ${exact}`;
}

async function network() {
  const found = await attempt("ledger-problem", () => ask("ledger", { network: $("network").value }), "ledger");
  if (!found) return;
  const { total } = found;
  $("ledger-text").textContent = `${found.model} at ${found.inputs.join(", ")}: ${quantity(total.macs)} multiply-adds, ${quantity(total.parameters)} parameters, ${quantity(total.per_byte)} multiplications per byte moved.`;
  const largest = [...found.rows].sort((a, b) => b.multiplications - a.multiplications).slice(0, 12);
  rows($("ledger-chart"), largest.map((r) => ({ name: r.name, value: r.multiplications })), { label: `The layers with the most multiplications: ${largest.slice(0, 5).map((r) => `${r.name} ${quantity(r.multiplications)}`).join("; ")}` });
  table($("ledger"), ["~layer", "~kind", "output", "mult", "params", "moved"], found.rows.map((r) => ({ cells: [r.name, r.kind, r.output, quantity(r.multiplications), quantity(r.parameters), bytes(r.bytes)] })));
}
