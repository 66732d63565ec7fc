// Kernel view: a kernel, its terms, a filtered picture and the plan.
import { bytes, quantity, seconds, table } from "./charts.js";
import { cellAt, legend, paint } from "./maps.js";
import { apart, ratesText, showTerms } from "./term_view.js";
import { Board } from "./kernel_editor.js";
import { ask, upload } from "./api.js";
import { recall, remember } from "./address.js";
import { attempt, choose, options } from "./status.js";
import { hidePixel, play, showPixel } from "./pixel.js";
import { showRoofline, startSweep, sweep } from "./sweeps.js";

const VIEW = ["mode", "rank", "shape", "dtype", "tol"]; // inputs that the address holds
const PICTURES = ["source", "first", "approximate", "exact", "difference"];
const RESTS = 60; // ms that the pointer rests on a pixel before its products are shown
const PIXEL_SIDE = 15; // largest kernel whose products are shown
const $ = (id) => document.getElementById(id);
const state = { question: null, found: null, image: "camera", size: null, at: null, pinned: false };

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

  $("example").addEventListener("change", () => take({ spec: $("example").value }));
  $("draw-size").addEventListener("change", () => {
    const size = Number($("draw-size").value);
    if (Number.isInteger(size) && size >= 2 && size <= 15) board.resize(size);
  });
  $("board-clear").addEventListener("click", () => board.clear());
  $("kernel-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (source() === "named" && $("spec")) take({ spec: $("spec").value });
    if (source() === "draw") take({ values: board.values });
    if (source() === "paste") take({ text: $("paste").value });
  });
  $("kernel-file").addEventListener("change", () => {
    const [file] = $("kernel-file").files;
    if (file) takeFile(file);
  });
  listenToPictures();
  $("plan-form")?.addEventListener("submit", (event) => { event.preventDefault(); plan(false); sweep(state.found, $("shape"), $("dtype")); keepView(); });
  $("measure")?.addEventListener("click", () => plan(true));
  startSweep(() => sweep(state.found, $("shape"), $("dtype"), true));
  for (const id of VIEW) if (recall(id) && id !== "rank" && $(id)) $(id).value = recall(id);
  if (recall("picture")) $("picture").value = state.image = recall("picture");
  const numbers = recall("numbers");
  if (numbers) {
    $("paste").value = numbers.replaceAll("; ", "\n");
    document.querySelector('[name="source"][value="paste"]').checked = true;
    show();
  }
  take(numbers ? { text: numbers } : { spec: recall("kernel") || "sobel" }, Number(recall("rank")) || 1);
}

function listenToPictures() {
  $("rank").addEventListener("input", () => showTerms(state.found, false));
  $("rank").addEventListener("change", () => { filter(); keepView(); });
  $("mode").addEventListener("change", () => { filter(); plan(false); keepView(); });
  $("picture").addEventListener("change", () => {
    if ($("picture").value !== state.image?.upload) [state.image, state.note] = [$("picture").value, ""];
    choose($("picture"), $("picture").value);
    filter();
    keepView();
  });
  $("image-file").addEventListener("change", async () => {
    const [file] = $("image-file").files;
    if (!file) return;
    const found = await attempt("picture-problem", () => upload("image", file), "picture-text");
    if (!found) return;
    state.image = { upload: found.upload };
    state.note = found.note;
    choose($("picture"), found.upload, file.name);
    filter();
    keepView();
  });
  for (const canvas of ["source", "approximate", "exact"].map($)) {
    canvas.addEventListener("click", (event) => {
      state.pinned = true;
      choosePixel(cellAt(canvas, event, ...state.size));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (state.pinned || event.pointerType !== "mouse" || !state.size) return;
      clearTimeout(state.rests);
      const at = cellAt(canvas, event, ...state.size);
      state.rests = setTimeout(() => choosePixel(at), RESTS);
    });
    canvas.addEventListener("keydown", (event) => {
      const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!by || !state.at) return;
      event.preventDefault();
      choosePixel(state.at.map((v, k) => Math.max(0, Math.min(state.size[k] - 1, v + by[k]))));
    });
  }
  $("pixel-play").addEventListener("click", play);
}

async function takeFile(file) {
  const isPicture = /^image\//.test(file.type);
  const found = await attempt("kernel-problem", () => (isPicture ? pictureKernel(file) : upload("kernel", file).then((x) => ({ ...x, name: file.name }))));
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
  const found = await attempt("kernel-problem", () => ask("kernel", question), "strips", "rank-text");
  if (!found) return;
  state.question = question;
  state.found = found;
  if ($("spec")) $("spec").value = question.spec ?? "";
  choose($("example"), question.spec ?? "", question.spec ?? found.name);
  $("verdict").textContent = `${found.name}, ${found.shape.join(" x ")}. ${found.verdict}`;
  apart(found);
  if (rank > 1 && rank <= found.terms.length) {
    $("rank").value = rank;
    showTerms(found, false);
  }
  if (found.shape.length === 2) filter();
  else {
    for (const id of PICTURES) $(id).closest("figure").hidden = true;
    hidePixel();
    $("picture-text").textContent = "Pictures need a kernel with two axes.";
  }
  if ($("shape")) {
    const shape = $("shape").value.trim().split(/[\s,x]+/);
    if (shape.length !== found.shape.length) $("shape").value = { 1: "1000000", 2: "1024 1024", 3: "128 256 256" }[found.shape.length];
  }
  plan(false);
  sweep(found, $("shape"), $("dtype"));
  keepView();
}

// Keep in the address what is shown. Uploads stay out of it.
function keepView() {
  if (!state.question) return;
  const { spec, text, values } = state.question;
  const numbers = text || (values && values.map((row) => row.join(" ")).join("; ")) || "";
  remember({
    kernel: spec, numbers: numbers.length <= 2000 ? numbers : "", picture: typeof state.image === "string" ? state.image : "",
    ...Object.fromEntries(VIEW.map((id) => [id, $(id)?.value])),
  });
}

function choosePixel(at) {
  state.at = at;
  const [height, width] = state.found.shape;
  showSpots(at, height, width);
  if (Math.max(height, width) <= PIXEL_SIDE) showPixel(state.question, state.image, $("mode").value, at);
  else hidePixel();
}

// Frame the samples that the chosen pixel is made of: the whole window, then a row of the first result.
function showSpots([y, x], height, width) {
  for (const [id, rows, columns] of [["source", height, width], ["first", 1, width], ["approximate", 1, 1], ["exact", 1, 1]]) {
    const spot = $(id).parentElement.querySelector(".spot");
    const place = (at, whole) => `${(100 * (at + 0.5)) / whole}%`;
    spot.style.top = place(y, state.size[0]);
    spot.style.left = place(x, state.size[1]);
    spot.style.height = `${(100 * rows) / state.size[0]}%`;
    spot.style.width = `${(100 * columns) / state.size[1]}%`;
    spot.hidden = false;
  }
}

async function filter() {
  if (!state.found || state.found.shape.length !== 2) return;
  const question = { kernel: state.question, image: state.image, rank: Number($("rank").value), mode: $("mode").value };
  const found = await attempt("picture-problem", () => ask("filter", question), "picture-text", ...PICTURES);
  if (!found) return;
  const [height, width] = state.found.shape;
  const [rank, whole] = [found.rank, state.found.rank];
  const terms = `${rank} term${rank === 1 ? "" : "s"}`;
  const captions = {
    source: "the picture",
    first: `after the first pass, the column${rank > 1 ? " of term 1" : ""}: ${height} products per pixel`,
    approximate: rank > 1 ? `after the second pass, the row; the sum of ${terms}: ${rank * (height + width)} products per pixel` : `after the second pass, the row: ${height} + ${width} = ${height + width} products per pixel`,
    exact: `all weights at once: ${height * width} products per pixel`,
    difference: "difference of the two results",
  };
  for (const id of PICTURES) {
    $(id).closest("figure").hidden = id === "difference" && rank >= whole;
    paint($(id), found[id], `${captions[id]}; kernel ${state.found.name}`);
    $(`${id}-caption`).textContent = captions[id];
    if ($(`${id}-legend`)) legend($(`${id}-legend`), found[id]);
  }
  state.size = found.shape.slice(0, 2);
  state.at = state.at && state.at.every((v, k) => v < state.size[k]) ? state.at : state.size.map((v) => Math.floor(v / 3));
  for (const id of ["source", "approximate", "exact"]) {
    $(id).tabIndex = 0;
    $(id).classList.add("picks");
  }
  choosePixel(state.at);
  const digits = (v) => (v >= 1000 ? Math.round(v).toLocaleString("en") : v === 0 ? "0" : v.toPrecision(3));
  const bound = found.bound && found.bound <= found.scale ? `, guaranteed at most ${digits(found.bound)}` : "";
  const result = rank >= whole ? "Both ways give the same result" : `With ${terms} the result is wrong by up to ${digits(found.worst)} grey levels, ${digits(found.rms)} on average (root mean square)${bound}`;
  $("picture-text").textContent = `${state.note ? `The picture was ${state.note}. ` : ""}${result}; the largest output is ${digits(found.scale)}.`;
}

async function plan(measure) {
  if (!state.found || !$("plan")) return;
  const shape = $("shape").value.trim().split(/[\s,x]+/).map(Number);
  const question = { kernel: state.question, shape, dtype: $("dtype").value, mode: $("mode").value, tol: $("tol").value.trim() || null, measure };
  const found = await attempt("plan-problem", () => ask("plan", question), "plan", "roofline");
  if (!found) return;
  const measured = found.measured || {};
  const timed = Object.keys(measured).length > 0;
  const head = ["~method", "mult/output", "predicted", ...(timed ? ["measured"] : []), "-passes", "-moved", "-error"];
  table($("plan"), head, found.rows.map((r) => {
    const method = { text: r.title, note: r.chosen ? "chosen" : r.refused };
    if (r.refused) return { kind: "refused", cells: [method, ...head.slice(1).map(() => "")] };
    return { kind: r.chosen ? "chosen" : "", cells: [method, quantity(r.multiplications), seconds(r.seconds), ...(timed ? [measured[r.name] ? seconds(measured[r.name]) : ""] : []), String(r.passes), bytes(r.bytes), r.bound === null ? "" : r.bound.toExponential(0)] };
  }));
  $("plan-text").textContent = `${found.note || ""} ${ratesText(found)}`.trim();
  showRoofline(found, shape);
}
