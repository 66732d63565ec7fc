// A layer drawn as blocks: the input, the kernels, and the output, with one plane per channel.

const SVG = "http://www.w3.org/2000/svg";
const SHOWN = 8; // planes of a block that are drawn one by one
const KERNELS = 4; // kernels that are drawn of many
const UNIT = 84; // longest side of a block in the drawing

function element(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// One figure: blocks side by side, or one behind the other, and a caption with the sizes.
function figure(blocks, title, text) {
  const made = document.createElement("figure");
  made.className = "blocks";
  const gap = 10;
  const width = blocks.reduce((sum, b) => sum + b.width + gap, gap);
  const height = Math.max(...blocks.map((b) => b.height)) + 4;
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${title}: ${text}` });
  let x = gap / 2;
  for (const block of blocks) {
    const part = element("g", { transform: `translate(${x} ${(height - block.height) / 2})` });
    part.append(...block.shapes);
    svg.append(part);
    x += block.width + gap;
  }
  const caption = document.createElement("figcaption");
  caption.append(Object.assign(document.createElement("strong"), { textContent: title }), text);
  made.append(svg, caption);
  return made;
}

// A block of planes in oblique projection; `colours` gives each plane its class, `frame` a window on the front.
function block(height, width, depth, scale, colours, frame = null) {
  const [w, h] = [Math.max(7, width * scale), Math.max(7, height * scale)];
  const planes = Math.min(depth, SHOWN);
  const step = depth > SHOWN ? 5 : Math.max(5, Math.min(11, scale));
  const [dx, dy] = [step * 0.8, step * 0.6];
  const shapes = [];
  for (let k = planes - 1; k >= 0; k -= 1) {
    const [x, y] = [k * dx, (planes - 1 - k) * dy];
    shapes.push(element("rect", { x, y, width: w, height: h, class: `plane ${colours(k)}` }));
  }
  if (frame) {
    for (let k = 0; k < planes; k += 1) {
      const [x, y] = [k * dx, (planes - 1 - k) * dy];
      if (k === 0 || frame.through) shapes.push(element("rect", { x: x + frame.x * scale, y: y + frame.y * scale, width: Math.max(4, frame.width * scale), height: Math.max(4, frame.height * scale), class: k ? "window behind" : "window" }));
    }
  }
  return { shapes, width: w + (planes - 1) * dx, height: h + (planes - 1) * dy };
}

const dots = (text) => ({ shapes: [element("text", { x: 0, y: 14, class: "value" }, text)], width: 9 * text.length, height: 20 });

const channel = (k) => `c${k % 3}`;
const mixed = () => "mixed";

function operator(text) {
  const made = document.createElement("span");
  made.className = "sign";
  made.textContent = text;
  return made;
}

function line(title, count, ...parts) {
  const made = document.createElement("section");
  const heading = document.createElement("h3");
  heading.textContent = title;
  const row = document.createElement("div");
  row.className = "flow";
  row.append(...parts);
  const note = document.createElement("p");
  note.className = "count";
  note.textContent = count;
  made.append(heading, row, note);
  return made;
}

// A few of many kernels and the number of all.
function some(count, make) {
  const shown = Array.from({ length: Math.min(count, KERNELS) }, (_, k) => make(k));
  return count > KERNELS ? [...shown, dots("\u2026")] : shown;
}

const size = (...parts) => parts.join("x");
const whole = (v) => v.toLocaleString("en");

// Draw a layer, of volumes one plane; `place` is the number of the output whose window is framed.
export function drawLayer(holder, { input, channels, kernel, filters, multiplier, stride, padding, output, counts }, place) {
  const [high, wide] = input.length === 1 ? [1, input[0]] : input.slice(-2);
  const [below, right] = output.length === 1 ? [1, output[0]] : output.slice(-2);
  const tall = input.length === 1 ? 1 : kernel;
  const scale = UNIT / Math.max(high, wide);
  const close = Math.min(UNIT / 3 / kernel, Math.max(scale, 5));
  const taps = size(...input.map(() => kernel));
  const [inside, between, after] = [size(...input, channels), size(...output, channels * multiplier), size(...output, filters)];
  const [y, x] = [Math.floor(place / right) % below, place % right]; // the output that is framed, and its window
  const before = (size, length, outputs) => (padding === "same" ? Math.max(0, Math.floor(((outputs - 1) * stride + length - size) / 2)) : 0);
  const window = { x: x * stride - before(wide, kernel, right), y: y * stride - before(high, tall, below), width: kernel, height: tall, through: true };
  const pixel = { x, y, width: 1, height: 1, through: true };
  const source = () => figure([block(high, wide, channels, scale, channel, window)], "input", inside);
  const result = () => figure([block(below, right, filters, scale, mixed, { ...pixel, through: false })], "output", after);
  const many = (n, word) => `${whole(n)} ${word}${n === 1 ? "" : "s"} `;
  const dense = line(
    "Dense", `${output.join(" x ")} positions x ${input.map(() => kernel).join(" x ")} x ${channels} weights x ${whole(filters)} filter${filters === 1 ? "" : "s"} = ${whole(counts.dense)} multiplications`,
    source(), operator("\u2217"), figure(some(filters, () => block(tall, kernel, channels, close, channel)), many(filters, "kernel"), size(taps, channels)), operator("\u2192"), result(),
  );
  const maps = channels * multiplier;
  const apart = line(
    "Depthwise separable", `${output.join(" x ")} positions x (${input.map(() => kernel).join(" x ")} x ${maps} + ${maps} x ${whole(filters)}) = ${whole(counts.depthwise)} + ${whole(counts.pointwise)} = ${whole(counts.separable)} multiplications`,
    source(), operator("\u2217"), figure(some(maps, (k) => block(tall, kernel, 1, close, () => channel(Math.floor(k / multiplier)))), many(maps, "kernel"), `${taps}x1 each`),
    operator("\u2192"), figure([block(below, right, maps, scale, (k) => channel(Math.floor(k / multiplier)), pixel)], "between", between),
    operator("\u2217"), figure(some(filters, () => block(1, 1, maps, 9, (k) => channel(Math.floor(k / multiplier)))), many(filters, "kernel"), `${size(...input.map(() => 1))}x${maps} each`), operator("\u2192"), result(),
  );
  holder.replaceChildren(dense, apart);
}
