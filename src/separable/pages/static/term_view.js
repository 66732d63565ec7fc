// A kernel, its terms one by one, their sum, and what is missing: with a slider.
import { barsAndLine, map, percent, rows } from "./charts.js";

const byId = (id) => document.getElementById(id);

// Planes of a volume side by side.
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
  map(byId("whole"), kernel, { label: `kernel of ${found.shape.join(" by ")}`, reach, signed });
  byId("whole-caption").textContent = `kernel ${found.shape.join(" x ")}`;
  const rank = Number(byId("rank").value);
  for (const name of ["term", "sum", "rest"]) document.querySelector(`.strips .${name}`).hidden = !found.terms.length;
  byId("rank-out").textContent = found.terms.length ? `${rank} of ${found.rank}` : "";
  byId("rank-text").textContent = "";
  if (!found.terms.length) return;
  drawStrips(found, rank, reach);
  const sum = found.terms.slice(0, rank).map(product).reduce((a, b) => combine(a, b, (u, v) => u + v));
  map(byId("sum"), sheet(sum), { label: `sum of the first ${rank} terms`, reach });
  map(byId("rest"), sheet(combine(found.values, sum, (u, v) => u - v)), { label: "what is missing", reach, signed: true });
  byId("sum-caption").textContent = rank === 1 ? "the first term" : `the first ${rank} terms`;
  byId("rank-text").textContent = told(found, rank);
  if (!fresh) return;
  const strips = byId("strips");
  strips.classList.remove("come");
  void strips.offsetWidth;
  strips.classList.add("come");
}

function drawStrips(found, rank, reach) {
  const frame = byId("frame");
  const plane = found.shape.length === 2;
  frame.replaceChildren();
  frame.classList.toggle("stack", !plane);
  const strips = found.terms[rank - 1].map((strip, k) => {
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    const upright = plane && k === 0;
    const numbers = strip.map((v) => +v.toPrecision(3)).slice(0, 15).join(", ");
    map(canvas, upright ? strip.map((v) => [v]) : [strip], { label: `factor ${found.letters[k]} of term ${rank}: ${numbers}` });
    if (!upright) canvas.style.height = plane ? "1.1rem" : "1.4rem";
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
  map(whole, product(found.terms[rank - 1]), { label: `term ${rank}: the column times the row`, reach });
  strips[0].className = "column";
  frame.append(corner, strips[1], strips[0], whole);
}

function told(found, rank) {
  const many = rank > 1 ? "s" : "";
  const count = `${found.multiplications.passes[rank - 1]} multiplications for each output instead of ${found.multiplications.dense}.`;
  if (rank >= found.rank) return `Exact with ${rank} term${many}: ${count}`;
  const error = found.errors[Math.min(rank, found.errors.length - 1)];
  return `With ${rank} term${many} ${percent(error)} of the kernel is missing; no output is off by more than ${percent(found.bounds[rank])} of (sum of |weights|) x (largest input). ${count[0].toUpperCase()}${count.slice(1)}`;
}

function showSpectrum(found) {
  if (!found.spectrum.length) {
    byId("spectrum").textContent = found.shape.length === 1 ? "One axis has no spectrum." : "It is zero everywhere.";
    return;
  }
  const largest = found.spectrum[0] || 1;
  const told = found.errors.slice(1, 8).map(percent).join(", ");
  barsAndLine(byId("spectrum"), found.spectrum.map((v) => v / largest), found.errors, { label: `Spectrum: rank ${found.rank}; error with 1, 2, ... terms: ${told}`, name: "term" });
}

function showCounts(found) {
  const { dense, passes } = found.multiplications;
  const shown = passes.map((v, i) => ({ name: `${i + 1} term${i ? "s" : ""}`, value: v })).slice(0, 10);
  const exact = found.rank <= passes.length ? found.rank : -1;
  const told = shown.map((s) => `${s.name} ${s.value}`).join("; ");
  rows(byId("counts"), [{ name: "dense", value: dense, pale: true }, ...shown], { label: `Multiplications: dense ${dense}; ${told}`, marked: exact });
}
