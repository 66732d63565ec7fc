// One pixel: the samples and weights it is made of, all at once and in two passes, step by step.
import { ask } from "./api.js";
import { inkOn } from "./maps.js";
import { attempt } from "./status.js";

const $ = (id) => document.getElementById(id);
const digits = (v) => String(+v.toPrecision(4));
let shown = null, running = null;

export async function showPixel(kernel, image, mode, at) {
  stop();
  const found = await attempt("pixel-problem", () => ask("pixel", { kernel, image, mode, y: at[0], x: at[1] }), "pixel");
  if (!found) return;
  shown = found;
  draw();
}

export function hidePixel() {
  stop();
  shown = null;
  $("pixel").hidden = true;
}

function cell(text, note, kind = "td") {
  const made = document.createElement(kind);
  made.append(text);
  if (note) {
    const small = document.createElement("small");
    small.textContent = note;
    made.append(small);
  }
  return made;
}

// The cell of a sample, with its grey level where samples are grey levels.
function sampleCell(value, weight) {
  const made = cell(digits(value), `\u00d7 ${digits(weight)}`);
  const grey = Math.round(value);
  if (grey >= 0 && grey <= 255) {
    made.style.background = `rgb(${grey} ${grey} ${grey})`;
    made.style.color = inkOn([grey, grey, grey]);
  }
  return made;
}

function line(...cells) {
  const made = document.createElement("tr");
  made.append(...cells);
  return made;
}

function draw() {
  const { samples, weights, column, row, first, value } = shown;
  $("pixel").hidden = false;
  const count = weights.flat().length;
  $("pixel-dense").replaceChildren(...samples.map((r, y) => line(...r.map((v, x) => sampleCell(v, weights[y][x])))));
  $("pixel-dense-title").textContent = `All ${count} products`;
  $("pixel-dense-text").textContent = `Pixel y ${shown.at[0]}, x ${shown.at[1]}: ${count} products add up to ${digits(value)}.`;
  $("pixel-passes-title").textContent = column ? `${column.length} + ${row.length} products` : "Two passes";
  if (!column) {
    $("pixel-passes").replaceChildren();
    $("pixel-passes-text").textContent = "This kernel is not separable: one column and one row do not give this value. Several terms do.";
    return;
  }
  $("pixel-passes").replaceChildren(
    ...samples.map((r, y) => line(...r.map((v) => sampleCell(v, column[y])))),
    line(...first.map((v, x) => cell(`= ${digits(v)}`, `\u00d7 ${digits(row[x])}`))),
  );
  $("pixel-passes-text").textContent = `First pass: the column, ${column.length} products for each pixel of the row; every one of these sums serves ${row.length} pixels. Second pass: the row, ${row.length} products add up to ${digits(value)}. So each pixel costs ${column.length} + ${row.length} = ${column.length + row.length} products instead of ${count}.`;
}

export function stop() {
  clearInterval(running);
  running = null;
  document.querySelectorAll("#pixel td").forEach((td) => td.classList.remove("now", "done"));
  $("pixel-play").textContent = "Step by step";
}

// Go through the products of both ways at once: the second way needs fewer steps.
export function play() {
  if (running) return stop();
  if (!shown) return;
  stop();
  const dense = [...$("pixel-dense").querySelectorAll("td")];
  const { samples, weights, column, row, first } = shown;
  const [height, width] = [samples.length, samples[0].length];
  const passes = [...$("pixel-passes").querySelectorAll("td")];
  const middle = Math.floor(width / 2);
  const short = column ? [...column.keys()].map((y) => y * width + middle).concat([...row.keys()].map((x) => height * width + x)) : [];
  let step = 0, sum = 0, part = 0;
  $("pixel-play").textContent = "Stop";
  const next = () => {
    if (step >= dense.length) {
      const done = running;
      running = null;
      clearInterval(done);
      $("pixel-play").textContent = "Step by step";
      return;
    }
    sum += samples.flat()[step] * weights.flat()[step];
    mark(dense, [...dense.keys()], step);
    $("pixel-dense-text").textContent = `${step + 1} products: ${digits(sum)}.`;
    if (step < short.length) {
      mark(passes, short, step);
      if (step < column.length) part += samples[step][middle] * column[step];
      if (step === column.length) part = 0;
      if (step >= column.length) part += first[step - column.length] * row[step - column.length];
      const where = step < column.length ? "first pass, the middle column" : "second pass";
      $("pixel-passes-text").textContent = `${step + 1} products (${where}): ${digits(part)}.${step + 1 === short.length ? " Done." : ""}`;
    }
    step += 1;
  };
  running = setInterval(next, Math.max(120, Math.min(600, 6000 / dense.length)));
  next();
}

function mark(cells, order, step) {
  if (step) cells[order[step - 1]].classList.replace("now", "done");
  cells[order[step]].classList.add("now");
}
