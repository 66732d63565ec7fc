// Kernel view: a kernel, its terms, a filtered picture and the plan.
import { bytes, quantity, seconds, table } from "./charts.js";
import { apart, ratesText, showTerms } from "./term_view.js";
import { Board } from "./kernel_editor.js";
import { ask, attempt, options, upload } from "./api.js";
import { hidePixel, play, showPixel } from "./pixel.js";

const VIEW = ["mode", "rank", "shape", "dtype", "tol"]; // inputs that the address holds
const $ = (id) => document.getElementById(id);
const state = { question: null, found: null, image: "camera", size: null, at: null };

export function start(offered) {
  options($("example"), Object.entries(offered.examples));
  options($("picture"), Object.entries(offered.pictures));
  const board = new Board($("board"), $("brush"));
  board.resize(7);
  for (const [y, row] of [[0, 0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0, 0]].entries()) board.values[y] = [...row];
  board.show();

  const source = () => document.querySelector('[name="source"]:checked').value;
  const show = () => document.querySelectorAll("[data-source]").forEach((part) => (part.hidden = part.dataset.source !== source()));
  document.querySelectorAll('[name="source"]').forEach((radio) => radio.addEventListener("change", show));
  show();

  $("example").addEventListener("change", () => {
    $("spec").value = $("example").value;
    take({ spec: $("spec").value });
  });
  $("draw-size").addEventListener("change", () => {
    const size = Number($("draw-size").value);
    if (Number.isInteger(size) && size >= 2 && size <= 15) board.resize(size);
  });
  $("board-clear").addEventListener("click", () => board.clear());
  $("kernel-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (source() === "named") take({ spec: $("spec").value });
    if (source() === "draw") take({ values: board.values });
    if (source() === "paste") take({ text: $("paste").value });
  });
  $("kernel-file").addEventListener("change", async () => {
    const [file] = $("kernel-file").files;
    if (file) takeFile(file);
  });
  $("rank").addEventListener("input", () => showTerms(state.found, false));
  $("rank").addEventListener("change", () => { filter(); remember(); });
  $("mode").addEventListener("change", () => { filter(); plan(false); remember(); });
  $("picture").addEventListener("change", () => { state.image = $("picture").value; filter(); remember(); });
  $("image-file").addEventListener("change", async () => {
    const [file] = $("image-file").files;
    if (!file) return;
    const found = await attempt("picture-problem", () => upload("image", file));
    if (found) {
      state.image = { upload: found.upload };
      state.note = found.note;
      filter();
    }
  });
  $("plan-form").addEventListener("submit", (event) => { event.preventDefault(); plan(false); remember(); });
  $("measure").addEventListener("click", () => plan(true));
  $("exact").addEventListener("click", (event) => {
    const box = $("exact").getBoundingClientRect();
    const place = (from, whole, size) => Math.max(0, Math.min(size - 1, Math.floor((from / whole) * size)));
    choosePixel([place(event.clientY - box.top, box.height, state.size[0]), place(event.clientX - box.left, box.width, state.size[1])]);
  });
  $("exact").addEventListener("keydown", (event) => {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!by || !state.at) return;
    event.preventDefault();
    choosePixel(state.at.map((v, k) => Math.max(0, Math.min(state.size[k] - 1, v + by[k]))));
  });
  $("pixel-play").addEventListener("click", play);
  recall();
}

async function takeFile(file, name = file.name) {
  const isPicture = /^image\//.test(file.type);
  const found = await attempt("kernel-problem", () => (isPicture ? pictureKernel(file) : upload("kernel", file).then((x) => ({ ...x, name }))));
  if (found) take(found);
}

// Turn a small picture into a kernel: its grey levels, scaled to sum 1.
async function pictureKernel(file) {
  const bitmap = await createImageBitmap(file).catch(() => { throw new Error("expected a picture; this file cannot be read as one"); });
  if (Math.max(bitmap.width, bitmap.height) > 255) throw new Error(`a picture used as a kernel has at most 255 pixels per side; this one has ${bitmap.width} x ${bitmap.height}`);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const grey = Array.from({ length: bitmap.height }, (_, y) => Array.from({ length: bitmap.width }, (_, x) => {
    const i = 4 * (y * bitmap.width + x);
    return 0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2];
  }));
  const total = grey.flat().reduce((a, b) => a + b, 0) || 1;
  return { values: grey.map((row) => row.map((v) => v / total)) };
}

async function take(question, rank = 1) {
  const found = await attempt("kernel-problem", () => ask("kernel", question), "view-kernel");
  if (!found) return;
  state.question = question;
  state.found = found;
  $("verdict").textContent = `${found.name}, ${found.shape.join(" x ")}. ${found.verdict}`;
  apart(found);
  if (rank > 1 && rank <= found.terms.length) {
    $("rank").value = rank;
    showTerms(found, false);
  }
  if (found.shape.length === 2) filter();
  else {
    for (const id of ["exact", "first", "approximate", "difference"]) $(id).hidden = true;
    hidePixel();
    $("picture-text").textContent = "Pictures need a kernel with two axes.";
  }
  const shape = $("shape").value.trim().split(/[\s,x]+/);
  if (shape.length !== found.shape.length) $("shape").value = { 1: "1000000", 2: "1024 1024", 3: "128 256 256" }[found.shape.length];
  plan(false);
  remember();
}

// The address holds what is shown, so that a view can be shared. Uploads stay out of it.
function remember() {
  const { spec, text, values } = state.question;
  const numbers = text || (values && values.map((row) => row.join(" ")).join("; "));
  const kept = new URLSearchParams();
  if (spec) kept.set("kernel", spec);
  else if (numbers && numbers.length <= 2000) kept.set("numbers", numbers);
  if (typeof state.image === "string") kept.set("picture", state.image);
  for (const id of VIEW) if ($(id).value) kept.set(id, $(id).value);
  history.replaceState(null, "", `#${kept}`);
}

function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const id of VIEW) if (kept.has(id) && id !== "rank") $(id).value = kept.get(id);
  if (kept.has("picture")) $("picture").value = state.image = kept.get("picture");
  const numbers = kept.get("numbers");
  if (numbers) $("paste").value = numbers.replaceAll("; ", "\n");
  const spec = kept.get("kernel") || "sobel";
  if (!numbers) $("spec").value = $("example").value = spec;
  take(numbers ? { text: numbers } : { spec }, Number(kept.get("rank")) || 1);
}

function choosePixel(at) {
  state.at = at;
  const [height, width] = state.found.shape;
  if (Math.max(height, width) <= 15) showPixel(state.question, state.image, $("mode").value, at);
  else hidePixel();
}

async function filter() {
  if (!state.found || state.found.shape.length !== 2) return;
  const question = { kernel: state.question, image: state.image, rank: Number($("rank").value), mode: $("mode").value };
  const found = await attempt("picture-problem", () => ask("filter", question), "picture-text");
  if (!found) return;
  const name = state.found.name;
  for (const [id, text] of [["exact", `the picture filtered with ${name}`], ["first", "the picture after the first pass, along the column"], ["approximate", `the same with ${found.rank} term${found.rank === 1 ? "" : "s"}`], ["difference", "approximate minus exact: red is positive, blue negative"]]) {
    $(id).src = found[id];
    $(id).alt = text;
    $(id).hidden = false;
  }
  state.size = found.shape.slice(0, 2);
  state.at = state.at && state.at.every((v, k) => v < state.size[k]) ? state.at : state.size.map((v) => Math.floor(v / 3));
  $("exact").tabIndex = 0;
  $("exact").classList.add("picks");
  choosePixel(state.at);
  $("first-caption").textContent = "after the first pass: the column of term 1";
  $("exact-caption").textContent = `exact, ${seconds(found.seconds)}`;
  $("approximate-caption").textContent = `after both passes, ${found.rank} term${found.rank === 1 ? "" : "s"}`;
  $("difference-caption").textContent = "difference, scaled to its own range";
  const digits = (v) => (v === 0 ? "0" : v.toPrecision(3));
  $("picture-text").textContent = (state.note ? `The picture was ${state.note}. ` : "") +
    `Error in grey levels: largest ${digits(found.worst)}, root mean square ${digits(found.rms)}${found.bound <= found.scale ? `, guaranteed at most ${digits(found.bound)}` : ""}. Largest exact output: ${digits(found.scale)}.`;
}

async function plan(measure) {
  if (!state.found) return;
  const shape = $("shape").value.trim().split(/[\s,x]+/).map(Number);
  const question = { kernel: state.question, shape, dtype: $("dtype").value, mode: $("mode").value, tol: $("tol").value.trim() || null, measure };
  const found = await attempt("plan-problem", () => ask("plan", question), "plan");
  if (!found) return;
  const measured = found.measured || {};
  const head = ["~method", "passes", "mult/output", "moved", "predicted", "measured", "error", "~"];
  table($("plan"), head, found.rows.map((r) => ({
    kind: r.chosen ? "chosen" : r.refused ? "refused" : "",
    cells: [r.title, r.refused ? "" : String(r.passes), r.refused ? "" : quantity(r.multiplications), r.refused ? "" : bytes(r.bytes), r.refused ? "" : seconds(r.seconds), measured[r.name] ? seconds(measured[r.name]) : "", r.bound === null || r.refused ? "" : r.bound.toExponential(0), r.chosen ? "chosen" : r.refused],
  })));
  $("plan-text").textContent = `${found.note || ""} ${ratesText(found)}`.trim();
}
