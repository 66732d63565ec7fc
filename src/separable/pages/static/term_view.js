// View of a kernel: the equation kernel = column x row with its numbers, and for kernels that are no such
// product the sum of the first terms, the remainder, and the term that a slider chooses.
import { barsAndLine, percent, rows } from "./charts.js";
import { cellAt, legend, map } from "./maps.js";

const byId = (id) => document.getElementById(id);
const number = (v) => String(+v.toPrecision(4));
const NAMES = { z: "along z", y: "column", x: "row" };
const WRITTEN = 7, WRITTEN_SMALL = 5; // samples of a side up to which cells hold their numbers, alone and beside others

// Arrange the planes of a volume side by side, with gaps between them.
function sheet(values) {
  if (typeof values[0] === "number") return [values];
  if (typeof values[0][0] === "number") return values;
  const across = Math.ceil(Math.sqrt(values.length));
  const [height, width] = [values[0].length, values[0][0].length];
  const down = Math.ceil(values.length / across);
  const out = Array.from({ length: down * (height + 1) - 1 }, () => new Array(across * (width + 1) - 1).fill(null));
  values.forEach((plane, i) => plane.forEach((row, y) => row.forEach((v, x) => {
    out[Math.floor(i / across) * (height + 1) + y][(i % across) * (width + 1) + x] = v;
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
  byId("rank").closest(".slider").hidden = terms < 2;
  showTerms(found, true);
  showSpectrum(found);
  showCounts(found);
}

export function showTerms(found, fresh) {
  const kernel = sheet(found.values);
  const reach = Math.max(...kernel.flat().map(Math.abs));
  const side = Math.max(kernel.length, kernel[0].length);
  const written = side <= (found.rank > 1 ? WRITTEN_SMALL : WRITTEN);
  const rank = Number(byId("rank").value);
  const figures = [matrix("whole", kernel, "kernel", `kernel of ${found.shape.join(" by ")}`, reach, side, written)];
  const below = [];
  let low = Math.min(0, ...kernel.flat());
  byId("rank-out").textContent = found.terms.length ? `${rank} of ${found.rank}` : "";
  byId("rank-text").textContent = "";
  if (found.terms.length) {
    const sum = found.terms.slice(0, rank).map(product).reduce((a, b) => combine(a, b, (u, v) => u + v));
    const whole = found.rank === 1;
    if (!whole) {
      const remainder = sheet(combine(found.values, sum, (u, v) => u - v));
      const caption = rank === 1 ? "the first term" : `the first ${rank} terms`;
      figures.push(sign("="), matrix("sum", sheet(sum), caption, `sum of ${caption}`, reach, side, written));
      figures.push(sign("+"), matrix("rest", remainder, "remainder", "remainder: kernel minus sum", reach, side, written));
      below.push(matrix("term", sheet(product(found.terms[rank - 1])), `term ${rank}`, `term ${rank}`, reach, side, written));
      low = Math.min(low, ...remainder.flat());
    }
    (whole ? figures : below).push(sign("="), ...strips(found, rank, written));
    byId("rank-text").textContent = rankText(found, rank);
    if (whole && found.shape.length === 2) explainCells(figures[0].firstChild, found);
  }
  const holder = byId("strips");
  holder.replaceChildren(equation(figures), ...(below.length ? [equation(below)] : []));
  holder.classList.toggle("many", below.length > 0);
  byId("cell-text").hidden = found.rank !== 1 || found.shape.length !== 2;
  const range = document.createElement("p");
  range.className = "legend";
  legend(range, { low: low < 0 ? -reach : 0, high: reach, signed: true });
  if (found.terms.length) range.append(found.shape.length === 2 ? "(column and row: their own scale)" : "(vectors: their own scale)");
  holder.append(range);
  if (!fresh) return;
  holder.classList.remove("come");
  void holder.offsetWidth;
  holder.classList.add("come");
}

function equation(parts) {
  const line = document.createElement("div");
  line.className = "equation";
  line.append(...parts);
  return line;
}

function sign(text) {
  const made = document.createElement("span");
  made.className = "sign";
  made.textContent = text;
  return made;
}

// One matrix of the equation. All cells have one size, that of a matrix with `side` cells along its longest axis.
function matrix(id, values, caption, label, reach, side, written) {
  const figure = document.createElement("figure");
  const canvas = document.createElement("canvas");
  const words = document.createElement("figcaption");
  canvas.id = id;
  canvas.setAttribute("role", "img");
  words.id = `${id}-caption`;
  words.textContent = caption;
  figure.className = "matrix";
  figure.append(canvas, words);
  for (const [name, n] of [["columns", values[0].length], ["rows", values.length], ["side", side]]) figure.style.setProperty(`--${name}`, n);
  map(canvas, values, { label, reach, numbers: written });
  return figure;
}

function strips(found, rank, written) {
  const term = found.terms[rank - 1];
  const plane = found.shape.length === 2;
  const reach = Math.max(...term.flat().map(Math.abs)); // one scale for all vectors of a term
  return term.flatMap((strip, k) => {
    const upright = plane && k === 0;
    const told = strip.map((v) => +v.toPrecision(3)).slice(0, 15).join(", ");
    const name = plane ? NAMES[found.letters[k]] || found.letters[k] : `along ${found.letters[k]}`;
    const label = `factor ${found.letters[k]} of term ${rank}: ${told}`;
    const values = upright ? strip.map((v) => [v]) : [strip];
    const figure = matrix(`factor-${found.letters[k]}`, values, name, label, reach, Math.max(...found.shape), written);
    return k ? [sign("\u00d7"), figure] : [figure];
  });
}

// Say for the weight below the pointer which two numbers it is the product of.
function explainCells(canvas, found) {
  const [height, width] = found.shape;
  const [column, row] = found.terms[0];
  const small = Math.max(height, width) <= WRITTEN;
  const kernel = sheet(found.values);
  const reach = Math.max(...kernel.flat().map(Math.abs));
  const at = [0, 0];
  const show = (y, x) => {
    [at[0], at[1]] = [y, x];
    byId("cell-text").textContent = `Row ${y + 1}, column ${x + 1}: ${number(column[y])} \u00d7 ${number(row[x])} = ${number(found.values[y][x])}. Every weight is the number of its row times the number of its column.`;
    if (!small) return;
    const redraw = (id, values, marks, most) => byId(id) && map(byId(id), values, { reach: most, numbers: true, marks });
    const most = Math.max(...column.concat(row).map(Math.abs));
    redraw("whole", kernel, [[y, x]], reach);
    redraw("factor-y", column.map((v) => [v]), [[y, 0]], most);
    redraw("factor-x", [row], [[0, x]], most);
  };
  canvas.addEventListener("pointermove", (event) => show(...cellAt(canvas, event, height, width)));
  canvas.tabIndex = 0;
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!by) return;
    event.preventDefault();
    show(...at.map((v, k) => Math.max(0, Math.min(found.shape[k] - 1, v + by[k]))));
  });
  const largest = kernel.flat().findIndex((v) => Math.abs(v) === reach);
  queueMicrotask(() => show(Math.floor(largest / width), largest % width));
}

// Say how good the sum of the first terms is, and what it costs.
function rankText(found, rank) {
  const { dense, nonzero, passes } = found.multiplications;
  const sample = found.shape.length === 2 ? "pixel" : "voxel";
  const zeros = nonzero === dense ? "" : ` (${nonzero} of its weights are not zero)`;
  const count = `${passes[rank - 1]} multiplications per ${sample}; dense needs ${dense}${zeros}.`;
  if (found.rank === 1) {
    const passes = found.shape.length === 2 ? "First the column, then the row" : "One pass along each axis";
    return `${passes}: ${found.shape.join(" + ")} = ${count}`;
  }
  if (rank >= found.rank) return `${rank} terms are exact. ${count}`;
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
