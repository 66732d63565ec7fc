// Kernels and pictures that the page holds or a reader opens, decoded in the browser.
import { parseMatrix } from "./matrix_text.js";

const pictures = new Map();

// Kernel of a list of the page: shape, and float64 numbers in base64.
export function kernelOf({ shape, float64 }) {
  const flat = new Float64Array(Uint8Array.from(atob(float64), (c) => c.charCodeAt(0)).buffer);
  return folded(flat, shape);
}

function folded(flat, shape) {
  let lists = [...flat];
  for (const length of shape.slice(1).reverse()) lists = Array.from({ length: lists.length / length }, (_, i) => lists.slice(i * length, (i + 1) * length));
  return lists;
}

export async function pictureOf(name) {
  if (!pictures.has(name)) {
    const address = DATA.photographs[name];
    if (!address) throw new Error(`there is no picture \`${name}\``);
    const image = new Image();
    image.src = address;
    await image.decode();
    pictures.set(name, planesOf(image, image.naturalWidth, image.naturalHeight));
  }
  return pictures.get(name);
}

function planesOf(image, width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const plane = (c) => ({ height, width, data: Float64Array.from({ length: width * height }, (_, i) => data[4 * i + c]) });
  const colours = [plane(0), plane(1), plane(2)];
  const isGrey = colours[0].data.every((v, i) => v === colours[1].data[i] && v === colours[2].data[i]);
  return { planes: isGrey ? [colours[0]] : colours, white: 255 };
}

export async function readFile(kind, file, largest) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const isArray = bytes[0] === 0x93 && String.fromCharCode(...bytes.slice(1, 6)) === "NUMPY";
  if (kind === "kernel") return { values: isArray ? arrayOf(bytes) : parseMatrix(new TextDecoder().decode(bytes)).values };
  if (isArray) throw new Error("a .npy picture needs the program: separable explore");
  const bitmap = await createImageBitmap(file).catch(() => { throw new Error("expected a picture that this browser can read; got something else"); });
  const share = Math.min(1, largest / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((n) => Math.max(1, Math.round(n * share)));
  return { ...planesOf(bitmap, width, height), note: share < 1 ? `scaled down to ${width} x ${height} pixels` : "" };
}

const READERS = { f8: "getFloat64", f4: "getFloat32", i8: "getBigInt64", i4: "getInt32", i2: "getInt16", i1: "getInt8", u8: "getBigUint64", u4: "getUint32", u2: "getUint16", u1: "getUint8", b1: "getUint8" };

// A NumPy array of real numbers.
function arrayOf(bytes) {
  const view = new DataView(bytes.buffer);
  const long = bytes[6] > 1;
  const start = long ? 12 : 10;
  const end = start + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder().decode(bytes.slice(start, end));
  const type = /'descr':\s*'([<>|=])(\w\d)'/.exec(header);
  const shape = /'shape':\s*\(([\d,\s]*)\)/.exec(header)?.[1].split(",").map((n) => n.trim()).filter(Boolean).map(Number);
  if (!type || !(type[2] in READERS) || !shape?.length) throw new Error("expected a .npy file of real numbers with one to three axes");
  const [size, count] = [Number(type[2][1]), shape.reduce((a, b) => a * b, 1)];
  if (!count || end + size * count > bytes.length) throw new Error("the .npy file is damaged. Save it again with numpy.save");
  const flat = Array.from({ length: count }, (_, i) => Number(view[READERS[type[2]]](end + i * size, type[1] !== ">")));
  if (!flat.every(Number.isFinite)) throw new Error("the kernel holds NaN or infinity: every weight must be a number");
  if (!header.includes("'fortran_order': True")) return folded(flat, shape);
  const turned = (lists) => (shape.length === 2 ? lists[0].map((_, j) => lists.map((row) => row[j])) : lists);
  if (shape.length === 3) throw new Error("a .npy file in Fortran order has at most two axes here");
  return turned(folded(flat, [...shape].reverse()));
}
