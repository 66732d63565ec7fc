// Conversion view: error of a converted network against its multiplications, and audits.
import { curve, percent, quantity, table } from "./charts.js";
import { ask, upload } from "./api.js";
import { attempt, options } from "./status.js";

const $ = (id) => document.getElementById(id);

export function start(offered) {
  const known = offered.networks.length > 0;
  for (const [kind, show, doing] of [["tradeoff", showConversion, "Converting ..."], ["audit", showAudit, "Examining every layer ..."]]) {
    options($(`${kind}-network`), known ? Object.entries(offered[`${kind}s`]) : [["", "needs PyTorch"]]);
    $(`${kind}-network`).disabled = $(`${kind}-run`).disabled = !known;
    $(`${kind}-run`).addEventListener("click", async () => {
      const before = $(`${kind}-text`).textContent;
      $(`${kind}-text`).textContent = doing;
      const found = await attempt(`${kind}-problem`, () => ask(kind, { network: $(`${kind}-network`).value }), `${kind}-table`);
      if (found) show(found);
      else $(`${kind}-text`).textContent = before;
    });
  }
  for (const [id, kind, show] of [["report-file", "tradeoff", showConversion], ["audit-file", "audit", showAudit]]) {
    $(id).addEventListener("change", async () => {
      const [file] = $(id).files;
      if (!file) return;
      const found = await attempt(`${kind}-problem`, () => upload(kind === "audit" ? "audit" : "report", file), `${kind}-table`);
      if (found) show(found);
    });
  }
}

function showConversion(found) {
  const { multiplications: after, multiplications_before: before } = found;
  const share = after && before ? after / before : null;
  const stands = share === null ? "" : ` This conversion: ${quantity(after)} of ${quantity(before)} multiplications, ${percent(share)}.`;
  $("tradeoff-text").textContent = `${found.model}.${stands} ${found.note}`;
  const points = found.curve;
  const nearest = share === null || !points.length ? null : points.reduce((a, b) => (Math.abs(b[0] - share) < Math.abs(a[0] - share) ? b : a));
  curve($("tradeoff"), points, { label: `error over multiplications of ${found.model}`, xLabel: "multiplications, fraction of the dense network", yLabel: "relative error of a layer (root mean square)", mark: nearest, dots: false, formatX: percent });
  table($("tradeoff-table"), ["~layer", "before", "after", "weight error", "-~pattern"], found.rows.map((r) => ({
    kind: r.reason ? "refused" : "", cells: [{ text: r.name, note: r.reason && `not converted: ${r.reason}` }, quantity(r.before), quantity(r.after), r.reason ? "" : percent(r.error), r.pattern],
  })));
}

function showAudit(found) {
  const exact = found.rows.filter((r) => r.exact).length;
  $("audit-text").textContent = `${found.model}: ${exact} of ${found.rows.length} convolutions have a cheaper form with the same values. ${found.note}`;
  $("audit-findings").replaceChildren(...found.findings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  table($("audit-table"), ["~layer", "mult", "exact", "at half", "-weights"], found.rows.map((r) => ({
    kind: r.exact ? "chosen" : r.reason ? "refused" : "",
    cells: [{ text: r.name, note: r.exact ? `${r.exact.pattern}` : r.reason }, quantity(r.multiplications), r.exact ? quantity(r.exact.multiplications) : "", r.half === null ? "" : percent(r.half), r.weights],
  })));
}
