// Answers of the page without a server: the same questions as in api.js, computed in the browser.
import { describe } from "./decompose.js";
import { compare, MODES, pixel } from "./browser_pictures.js";
import { layer } from "./layer_counts.js";
import { parseMatrix } from "./matrix_text.js";
import { kernelOf, pictureOf, readFile } from "./browser_files.js";

const LARGEST = 255, PIXELS = 512; // samples of a side of a kernel, and of a picture
const uploads = new Map();

export async function ask(name, question) {
  await new Promise((done) => setTimeout(done)); // the page shows that it computes
  if (!(name in ANSWERS)) throw new Error("this view needs the program: run separable explore on your computer");
  return ANSWERS[name](question);
}

export async function upload(kind, file) {
  const array = await readFile(kind, file, PIXELS);
  const name = `upload ${uploads.size + 1}`;
  uploads.set(name, array);
  return { upload: name, note: array.note || "" };
}

const ANSWERS = {
  start: () => ({ needs: "browser", modes: MODES, examples: DATA.examples, pictures: DATA.pictures, networks: [] }),
  kernel: ({ ...asked }) => {
    const { values, name, operation } = chosen(asked);
    return describe(values, name, operation);
  },
  filter: async ({ kernel, image, rank, mode }) => compare(chosen(kernel), await picture(image), rank, mode),
  pixel: async ({ kernel, image, y, x, mode }) => pixel(chosen(kernel), await picture(image), [y, x], mode),
  layer,
  sweep: ({ rank, ndim }) => DATA.sweeps.find((s) => s.ndim === ndim && s.rank === rank) || scaledSweep(rank, ndim),
};

function chosen(asked) {
  if (asked.spec !== undefined) {
    if (!(asked.spec in DATA.kernels)) throw new Error(`this page has the kernels of the list; for \`${asked.spec}\` type its numbers, or use the program`);
    return { values: kernelOf(DATA.kernels[asked.spec]), name: asked.spec, operation: "correlate" };
  }
  if (asked.text !== undefined) {
    const { values, operation } = parseMatrix(asked.text);
    return { values: limited(values), name: "typed kernel", operation: operation || "correlate" };
  }
  if (asked.values) return { values: limited(asked.values), name: "drawn kernel", operation: "correlate" };
  return { values: limited(uploads.get(asked.upload).values), name: asked.name, operation: "convolve" };
}

function limited(values) {
  let depth = 0;
  for (let list = values; Array.isArray(list); list = list[0]) {
    depth += 1;
    if (list.length > LARGEST) throw new Error(`a kernel on this page has at most ${LARGEST} samples per side; got ${list.length}`);
  }
  if (depth > 3) throw new Error(`a kernel has one to three axes; got ${depth}`);
  return values;
}

const picture = async (name) => (typeof name === "string" ? pictureOf(name) : uploads.get(name.upload));

// Multiplications for any number of terms follow from those of one term; times do not.
function scaledSweep(rank, ndim) {
  const one = DATA.sweeps.find((s) => s.ndim === ndim && s.rank === 1);
  const passes = one.multiplications.passes.map((v, i) => v * Math.min(rank, one.sizes[i]));
  const none = one.sizes.map(() => null);
  return { ...one, rank, multiplications: { ...one.multiplications, passes }, seconds: { ...one.seconds, passes: none }, crossing: null, note: `The times of ${rank} passes per axis are predicted by the program only.` };
}
