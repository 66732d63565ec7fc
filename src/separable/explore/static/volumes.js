// Volumes view: a stack slice by slice, after each of three passes and with the whole cube of weights.
import { seconds, table } from "./charts.js";
import { legend, paint } from "./maps.js";
import { ask, upload } from "./api.js";
import { recall, remember } from "./address.js";
import { attempt, choose, options } from "./status.js";

const $ = (id) => document.getElementById(id);
const state = { volume: "head", note: "" };
const RESTS = 40; // ms
const PICTURES = ["source", "z", "y", "x", "dense"];

export function start(offered) {
  options($("volume"), Object.entries(offered.volumes));
  options($("volume-kernel"), Object.entries(offered.volume_kernels));
  $("volume-pictures").replaceChildren(...PICTURES.map(figure));
  if (recall("volume")) $("volume").value = state.volume = recall("volume");
  for (const id of ["volume-kernel", "volume-mode"]) if (recall(id)) $(id).value = recall(id);
  $("volume-form").addEventListener("submit", (event) => event.preventDefault());
  $("volume").addEventListener("change", () => {
    if ($("volume").value !== state.volume?.upload) [state.volume, state.note] = [$("volume").value, ""];
    choose($("volume"), $("volume").value);
    show(null);
  });
  for (const id of ["volume-kernel", "volume-mode"]) $(id).addEventListener("change", () => show(slice()));
  let rests = null; // a slider that moves fast asks only for the slices where it rests
  $("slice").addEventListener("input", () => {
    clearTimeout(rests);
    rests = setTimeout(() => show(slice()), RESTS);
  });
  $("volume-file").addEventListener("change", async () => {
    const [file] = $("volume-file").files;
    if (!file) return;
    const found = await attempt("volume-problem", () => upload("volume", file), "volume-pictures");
    if (!found) return;
    state.volume = { upload: found.upload };
    state.note = found.note;
    choose($("volume"), found.upload, file.name);
    show(null);
  });
  $("volume-measure").addEventListener("click", measure);
  show(recall("slice") ? Number(recall("slice")) : null);
}

const slice = () => Number($("slice").value);
const question = (at) => ({ volume: state.volume, kernel: { spec: $("volume-kernel").value, ndim: 3 }, mode: $("volume-mode").value, slice: at });

function figure(id) {
  const made = document.createElement("figure");
  const canvas = document.createElement("canvas");
  canvas.id = `volume-${id}`;
  canvas.setAttribute("aria-label", "not yet computed");
  canvas.setAttribute("role", "img");
  made.append(canvas, document.createElement("figcaption"));
  const range = document.createElement("p");
  range.className = "legend";
  made.append(range);
  return made;
}

async function show(at) {
  const found = await attempt("volume-problem", () => ask("volume", question(at)), "volume-pictures", "volume-text");
  if (!found) return;
  const [depth] = found.shape;
  $("slice").max = depth - 1;
  $("slice").value = found.slice;
  $("slice-out").textContent = `${found.slice + 1} of ${depth}`;
  const taps = found.taps;
  const captions = {
    source: "the slice", z: `after the pass along z: ${taps[0]}`, y: `and along y: ${taps[0]} + ${taps[1]}`,
    x: `and along x: ${taps[0]} + ${taps[1]} + ${taps[2]} = ${found.separable}`, dense: `the cube of weights at once: ${found.all}`,
  };
  for (const id of PICTURES) {
    const canvas = $(`volume-${id}`);
    paint(canvas, found[id], captions[id]);
    canvas.nextSibling.textContent = captions[id];
    legend(canvas.parentElement.querySelector(".legend"), found[id]);
  }
  const total = (n) => (n * found.voxels).toLocaleString("en");
  $("volume-verdict").textContent = `${found.sentence[0].toUpperCase()}${found.sentence.slice(1)}.`;
  $("volume-text").textContent = `The volume has ${found.shape.join(" x ")} = ${found.voxels.toLocaleString("en")} voxels: ${total(found.all)} multiplications dense, ${total(found.separable)} in three passes. Largest difference of the two results in this slice: ${found.difference === 0 ? "0" : found.difference.toPrecision(2)}, the largest value is ${found.scale.toPrecision(3)}.`;
  $("volume-note").textContent = state.note || found.note;
  remember({ volume: typeof state.volume === "string" ? state.volume : "", slice: found.slice, "volume-kernel": $("volume-kernel").value, "volume-mode": $("volume-mode").value });
}

async function measure() {
  const found = await attempt("volume-problem", () => ask("volume_times", question(slice())), "volume-table");
  if (!found) return;
  table($("volume-table"), ["~", "mult/voxel", "multiplications", "measured"], found.rows.map((r) => ({ cells: [r.name, String(r.each), r.total.toLocaleString("en"), seconds(r.seconds)] })));
}
