// The report of one kernel.
import { bytes, quantity, seconds, table } from "./charts.js";
import { apart, ratesText, showTerms } from "./term_view.js";

apart(DATA.kernel);
document.getElementById("rates").textContent = ratesText(DATA.plan);
document.getElementById("rank").addEventListener("input", () => showTerms(DATA.kernel, false));
table(document.getElementById("plan"), ["~method", "passes", "mult/output", "moved", "predicted", "error", "~"], DATA.plan.rows.map((r) => ({
  kind: r.chosen ? "chosen" : r.refused ? "refused" : "",
  cells: r.refused ? [r.title, "", "", "", "", "", r.refused] : [r.title, String(r.passes), quantity(r.multiplications), bytes(r.bytes), seconds(r.seconds), r.bound === null ? "" : r.bound.toExponential(0), r.chosen ? "chosen" : ""],
})));
