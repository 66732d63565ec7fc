// The report of one kernel.
import { bytes, quantity, seconds, table } from "./charts.js";
import { apart, ratesText, showTerms } from "./term_view.js";

apart(DATA.kernel);
document.getElementById("rates").textContent = ratesText(DATA.plan);
document.getElementById("rank").addEventListener("input", () => showTerms(DATA.kernel, false));
table(document.getElementById("plan"), ["~method", "mult/output", "predicted", "-passes", "-moved", "-error"], DATA.plan.rows.map((r) => ({
  kind: r.chosen ? "chosen" : r.refused ? "refused" : "",
  cells: [{ text: r.title, note: r.chosen ? "chosen" : r.refused }, ...(r.refused ? ["", "", "", "", ""] : [quantity(r.multiplications), seconds(r.seconds), String(r.passes), bytes(r.bytes), r.bound === null ? "" : r.bound.toExponential(0)])],
})));
