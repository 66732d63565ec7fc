// Pictures filtered in the browser: with all weights at once, and in passes of the first terms.
import { factorize, outer } from "./decompose.js";

// Index of the sample that stands at a place outside; -1 for the constant 0.
const BORDERS = {
  reflect: (i, n) => { const k = ((i % (2 * n)) + 2 * n) % (2 * n); return k < n ? k : 2 * n - 1 - k; },
  mirror: (i, n) => { if (n === 1) return 0; const p = 2 * n - 2, k = ((i % p) + p) % p; return k < n ? k : p - k; },
  nearest: (i, n) => Math.max(0, Math.min(n - 1, i)),
  wrap: (i, n) => ((i % n) + n) % n,
  constant: (i, n) => (i < 0 || i >= n ? -1 : i),
};
export const MODES = Object.keys(BORDERS);
const PHOTOGRAPH = 0.1; // smallest sum of the weights, relative to their magnitudes, that keeps a photograph
const SHOWN_PERCENT = 99.7;
const PIXEL_SIDE = 15;

// The kernel as it is multiplied, and the samples before the pixel: as in SciPy, a kernel of even size lies one
// sample to the left, and a convolution flips it.
function placed(weights, operation) {
  const flip = operation === "convolve";
  const lefts = [weights.length, weights[0].length].map((n) => (flip ? Math.floor((n - 1) / 2) : Math.floor(n / 2)));
  return { lefts, taps: flip ? weights.map((row) => [...row].reverse()).reverse() : weights };
}

// Correlate one plane, row by row of the kernel.
export function filterPlane({ height, width, data }, weights, mode, operation) {
  const { lefts, taps } = placed(weights, operation);
  const border = BORDERS[mode];
  const [left, right] = [lefts[1], taps[0].length - 1 - lefts[1]];
  const columns = Array.from({ length: width + left + right }, (_, x) => border(x - left, width));
  const rows = Array.from({ length: height + taps.length - 1 }, (_, y) => border(y - lefts[0], height));
  const lines = new Map();
  const wide = (y) => { // one row of the picture, extended on both sides
    if (y < 0) return null;
    if (!lines.has(y)) lines.set(y, Float64Array.from(columns, (x) => (x < 0 ? 0 : data[y * width + x])));
    return lines.get(y);
  };
  const out = new Float64Array(height * width);
  for (let y = 0; y < height; y += 1) {
    const base = y * width;
    taps.forEach((row, j) => {
      const line = wide(rows[y + j]);
      if (!line) return;
      row.forEach((w, i) => {
        if (w) for (let x = 0; x < width; x += 1) out[base + x] += w * line[x + i];
      });
    });
  }
  return { height, width, data: out };
}

const all = (picture, work) => ({ ...picture, planes: picture.planes.map(work) });

function scaleOf(weights, picture, result) {
  const flat = weights.flat();
  const total = flat.reduce((a, b) => a + b, 0), size = flat.reduce((a, b) => a + Math.abs(b), 0);
  if (size && total >= PHOTOGRAPH * size) return { low: 0, high: picture.white * total, signed: false };
  const magnitudes = grey(result).data.map(Math.abs).sort();
  const reach = magnitudes[Math.floor(((magnitudes.length - 1) * SHOWN_PERCENT) / 100)] || magnitudes[magnitudes.length - 1];
  return { low: -reach, high: reach, signed: true };
}

// The mean of the colours.
function grey({ planes }) {
  if (planes.length === 1) return planes[0];
  return { ...planes[0], data: planes[0].data.map((v, i) => planes.reduce((sum, p) => sum + p.data[i], 0) / planes.length) };
}

function shown(result, scale) {
  const planes = scale.signed ? [grey(result)] : result.planes;
  const [{ height, width }] = planes;
  const pixels = new Uint8ClampedArray(height * width * planes.length);
  const factor = 255 / (scale.high - scale.low || 1);
  planes.forEach(({ data }, c) => data.forEach((v, i) => (pixels[i * planes.length + c] = (v - scale.low) * factor)));
  return { ...scale, pixels, height, width };
}

export function compare({ values, operation }, picture, rank, mode) {
  if (!(mode in BORDERS)) throw new Error(`\`mode\` must be one of ${MODES.join(", ")}; got '${mode}'`);
  const run = (weights) => (plane) => filterPlane(plane, weights, mode, operation);
  const exact = all(picture, run(values));
  const { terms, rank: whole } = factorize(values);
  const kept = Math.max(0, Math.min(rank, whole));
  const passes = terms.slice(0, kept).map(([down, across]) => [down.map((v) => [v]), [across]]);
  const zero = ({ height, width }) => ({ height, width, data: new Float64Array(height * width) });
  const first = all(picture, kept ? run(passes[0][0]) : zero);
  const part = all(picture, (plane) => passes.reduce((sum, [down, across], r) => {
    const once = r === 0 ? first.planes[picture.planes.indexOf(plane)] : run(down)(plane);
    const both = run(across)(once);
    sum.data.forEach((v, i) => (both.data[i] += v));
    return both;
  }, zero(plane)));
  const difference = { planes: part.planes.map((p, c) => ({ ...p, data: p.data.map((v, i) => v - exact.planes[c].data[i]) })) };
  const most = (result) => result.planes.reduce((top, p) => p.data.reduce((a, v) => Math.max(a, Math.abs(v)), top), 0);
  const worst = most(difference);
  const squares = difference.planes.reduce((sum, p) => p.data.reduce((a, v) => a + v * v, sum), 0);
  const left = terms.slice(0, kept).map(outer).reduce((rest, term) => rest.map((row, y) => row.map((v, x) => v - term[y][x])), values);
  const scale = scaleOf(values, picture, exact);
  const column = kept ? passes[0][0] : [[0]];
  const [{ height, width }] = picture.planes;
  return {
    rank: kept, source: shown(picture, { low: 0, high: picture.white, signed: false }), exact: shown(exact, scale), approximate: shown(part, scale),
    first: shown(first, scaleOf(column, picture, first)), difference: shown(difference, { low: -worst, high: worst, signed: true }),
    worst, rms: Math.sqrt(squares / (height * width * picture.planes.length)), scale: most(exact), shape: [height, width],
    bound: kept < whole ? left.flat().reduce((a, v) => a + Math.abs(v), 0) * most(picture) : 0,
  };
}

// Samples and weights behind one pixel.
export function pixel({ values, operation }, picture, [y, x], mode) {
  const [rows, columns] = [values.length, values[0].length];
  if (Math.max(rows, columns) > PIXEL_SIDE) throw new Error(`the products of a pixel are shown for kernels with two axes of at most ${PIXEL_SIDE} samples; this one is ${rows}x${columns}`);
  const plane = grey(picture);
  const { lefts, taps } = placed(values, operation);
  const border = BORDERS[mode];
  const samples = taps.map((_, j) => taps[0].map((__, i) => {
    const [at, from] = [border(y + j - lefts[0], plane.height), border(x + i - lefts[1], plane.width)];
    return at < 0 || from < 0 ? 0 : plane.data[at * plane.width + from];
  }));
  const value = samples.reduce((sum, row, j) => row.reduce((a, v, i) => a + v * taps[j][i], sum), 0);
  const found = { at: [y, x], samples, weights: taps, value };
  const { rank, terms } = factorize(taps);
  if (rank !== 1) return found;
  const [column, row] = terms[0];
  return { ...found, column, row, first: row.map((_, i) => column.reduce((sum, w, j) => sum + w * samples[j][i], 0)) };
}
