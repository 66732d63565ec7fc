// Conversion view: error of a converted network against its multiplications.
import { curve, percent, quantity, table } from "./charts.js";
import { ask, attempt, options, upload } from "./api.js";

const $ = (id) => document.getElementById(id);

export function start(offered) {
  const names = offered.networks.length ? offered.tradeoffs : [];
  options($("tradeoff-network"), names.length ? names.map((n) => [n, n]) : [["", "needs PyTorch"]]);
  $("tradeoff-network").disabled = $("tradeoff-run").disabled = !names.length;
  $("tradeoff-run").addEventListener("click", async () => {
    $("tradeoff-text").textContent = "Converting ...";
    const found = await attempt("tradeoff-problem", () => ask("tradeoff", { network: $("tradeoff-network").value }), "tradeoff");
    if (found) show(found);
    else $("tradeoff-text").textContent = "";
  });
  $("report-file").addEventListener("change", async () => {
    const [file] = $("report-file").files;
    if (!file) return;
    const found = await attempt("tradeoff-problem", () => upload("report", file), "tradeoff");
    if (found) show(found);
  });
}

function show(found) {
  const { multiplications: after, multiplications_before: before } = found;
  const share = after && before ? after / before : null;
  const stands = share === null ? "" : ` This conversion: ${quantity(after)} of ${quantity(before)} multiplications, ${percent(share)}.`;
  $("tradeoff-text").textContent = `${found.model}.${stands} ${found.note}`;
  const points = found.curve;
  const nearest = share === null || !points.length ? null : points.reduce((a, b) => (Math.abs(b[0] - share) < Math.abs(a[0] - share) ? b : a));
  curve($("tradeoff"), points, { label: `error over multiplications of ${found.model}`, xLabel: "multiplications, fraction of the dense network", yLabel: "relative error of a layer (root mean square)", mark: nearest, dots: false, formatX: percent });
  table($("tradeoff-table"), ["~layer", "~pattern", "before", "after", "weight error", "~not converted because"], found.rows.map((r) => ({
    kind: r.reason ? "refused" : "", cells: [r.name, r.pattern, quantity(r.before), quantity(r.after), r.reason ? "" : percent(r.error), r.reason],
  })));
}
