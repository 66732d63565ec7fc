// Numbers as colours on a canvas. One rule everywhere: blue is negative, red is positive, and zero has
// the colour of the paper. Photographs are grey.

const LIGHT = { zero: [250, 250, 250], negative: [33, 102, 172], positive: [178, 24, 43], mark: "#1c1c22" };
const DARK = { zero: [34, 37, 45], negative: [104, 174, 255], positive: [255, 116, 98], mark: "#ffffff" };
const WRITTEN = 9, CELL = 48; // a matrix up to this size has its numbers in its cells, of so many pixels

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

const palette = () => (isDark() ? DARK : LIGHT);

// What has to be drawn again when the page turns light or dark.
const drawn = new WeakMap();
const listeners = [];

export function onTheme(redraw) {
  listeners.push(redraw);
}

function redraw() {
  for (const canvas of document.querySelectorAll("canvas")) drawn.get(canvas)?.();
  for (const listener of listeners) listener();
}

function keep(canvas, draw) {
  drawn.set(canvas, draw);
  draw();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });

export function colour(value, reach) {
  const { zero, negative, positive } = palette();
  const t = Math.max(-1, Math.min(1, value / (reach || 1)));
  const to = t >= 0 ? positive : negative;
  return zero.map((from, i) => Math.round(from + (to[i] - from) * Math.abs(t)));
}

// Black or white, whichever has the larger contrast (at least 4.5, by the relative luminance of WCAG).
export function inkOn(shade) {
  const [r, g, b] = shade.map((v) => (v <= 10 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#ffffff";
}

export const short = (v) => (v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5) ? v.toExponential(0) : String(+v.toPrecision(3)));

// A matrix, one cell for each number (null stays empty); `marks` are cells with a frame.
export function map(canvas, values, { label, reach = null, numbers = false, marks = [] }) {
  const [height, width] = [values.length, values[0].length];
  const flat = values.flat();
  const most = reach === null ? Math.max(...flat.map(Math.abs)) : reach;
  const written = numbers && height <= WRITTEN && width <= WRITTEN;
  const cell = written ? CELL : 1;
  if (label) canvas.setAttribute("aria-label", label);
  canvas.classList.toggle("written", written);
  keep(canvas, () => {
    canvas.width = width * cell;
    canvas.height = height * cell;
    const context = canvas.getContext("2d");
    flat.forEach((v, i) => {
      if (v === null) return; // between the planes of a volume
      const [x, y] = [(i % width) * cell, Math.floor(i / width) * cell];
      const shade = colour(v, most);
      context.fillStyle = `rgb(${shade.join(",")})`;
      context.fillRect(x, y, cell, cell);
      if (written) write(context, short(v), x + cell / 2, y + cell / 2, inkOn(shade));
    });
    if (!written) return;
    context.strokeStyle = palette().mark;
    context.lineWidth = 4;
    for (const [y, x] of marks) context.strokeRect(x * cell + 2, y * cell + 2, cell - 4, cell - 4);
  });
}

function write(context, text, x, y, ink) {
  context.fillStyle = ink;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = `${text.length > 6 ? 11 : text.length > 4 ? 13 : text.length > 3 ? 16 : 20}px system-ui, sans-serif`;
  context.fillText(text, x, y);
}

// The cell of a matrix below the pointer.
export function cellAt(canvas, event, rows, columns) {
  const box = canvas.getBoundingClientRect();
  const place = (from, whole, count) => Math.max(0, Math.min(count - 1, Math.floor((from / whole) * count)));
  return [place(event.clientY - box.top, box.height, rows), place(event.clientX - box.left, box.width, columns)];
}

// A picture: `png` (an address) or `pixels` with `width` and `height`, grey or red, green and blue, where
// 0 .. 255 stand for `low` .. `high`. Signed pictures get the colours of the page.
const turns = new WeakMap();

export async function paint(canvas, picture, label) {
  const turn = {};
  turns.set(canvas, turn);
  const { width, height, data } = picture.png ? await decoded(picture.png) : spread(picture);
  if (turns.get(canvas) !== turn) return;
  if (label) canvas.setAttribute("aria-label", label);
  keep(canvas, () => {
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const shown = new ImageData(new Uint8ClampedArray(data), width, height);
    if (picture.signed) recolour(shown.data);
    context.putImageData(shown, 0, 0);
  });
}

async function decoded(png) {
  const image = new Image();
  image.src = png;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

function spread({ pixels, width, height }) {
  const channels = pixels.length / (width * height);
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let i = 0; i < width * height; i += 1) {
    for (let c = 0; c < 3; c += 1) data[4 * i + c] = pixels[channels * i + (channels === 3 ? c : 0)];
  }
  return { width, height, data };
}

function recolour(data) {
  const table = Array.from({ length: 256 }, (_, grey) => colour(grey - 127.5, 127.5));
  for (let i = 0; i < data.length; i += 4) {
    const shade = table[data[i]];
    for (let c = 0; c < 3; c += 1) data[i + c] = shade[c];
  }
}

// The scale of a comparison, with its ends in numbers and its colours in words.
export function legend(holder, { low, high, signed }, what) {
  const bar = document.createElement("canvas");
  bar.setAttribute("aria-hidden", "true");
  const steps = Array.from({ length: 64 }, (_, i) => low + ((high - low) * i) / 63);
  if (signed) map(bar, [steps], { reach: Math.max(-low, high) });
  else paint(bar, { pixels: steps.map((_, i) => (i * 255) / 63), width: 64, height: 1 });
  const words = !signed ? "black to white" : low < 0 ? "blue is negative, red is positive" : "red is positive";
  const text = (words) => Object.assign(document.createElement("span"), { textContent: words });
  holder.replaceChildren(text(short(low)), bar, text(short(high)), text(`${what ? `${what}: ` : ""}${words}`));
  holder.hidden = false;
}
