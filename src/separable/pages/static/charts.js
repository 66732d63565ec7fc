// Charts in SVG and maps on canvas, with a text for readers who do not see them.
// The static report holds this file too, so it imports nothing.

const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  for (const child of children) made.append(child);
  return made;
}

export function quantity(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  const units = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k", 1e3]];
  for (const [from, unit, size] of units) {
    if (Math.abs(value) >= from) return (value / (size || from)).toPrecision(3) + " " + unit;
  }
  return Number.isInteger(value) ? String(value) : String(+value.toPrecision(3));
}

export function seconds(value) {
  if (value === null || value === undefined) return "-";
  for (const [unit, size] of [["s", 1], ["ms", 1e-3]]) {
    if (value >= size) return (value / size).toPrecision(3) + " " + unit;
  }
  return (value * 1e6).toPrecision(3) + " \u00b5s";
}

export function bytes(value) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 1024]]) {
    if (value >= size) return (value / size).toPrecision(3) + " " + unit;
  }
  return value + " B";
}

export function percent(value) {
  if (value === 0) return "0 %";
  return (100 * value).toPrecision(2) + " %";
}

function frame(holder, width, height, label) {
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  holder.replaceChildren(svg);
  return svg;
}

// As wide as there is room, so that letters keep their size.
const room = (holder) => Math.max(280, Math.min(holder.clientWidth || 520, 900));

function scale(low, high, from, to, log) {
  const at = log ? Math.log10 : (v) => v;
  const [a, b] = [at(low), at(high)];
  return (v) => from + ((at(v) - a) / (b - a || 1)) * (to - from);
}

function ticks(low, high, log) {
  if (log) {
    const found = [];
    const [first, last] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
    const step = Math.max(1, Math.ceil((last - first) / 6));
    for (let p = first; p <= last; p += step) found.push(10 ** p);
    return found;
  }
  const raw = (high - low) / 4 || 1;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * size).find((s) => s >= raw * 0.999);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) found.push(+v.toPrecision(12));
  return found;
}

const short = (v) => (v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5) ? v.toExponential(0) : String(+v.toPrecision(3)));

// Bars with a line over them: one for each term.
export function barsAndLine(holder, bars, line, { label, name }) {
  const [width, height, left, bottom, top] = [room(holder), 260, 52, 34, 12];
  const svg = frame(holder, width, height, label);
  const positive = [...bars, ...line].filter((v) => v > 1e-15);
  const low = Math.max(Math.min(...positive, 0.1) / 2, 1e-16);
  const y = scale(low, 1.15, height - bottom, top, true);
  const step = (width - left) / (bars.length + 1.2);
  const x = (term) => left + step * (term + 0.2);
  for (const t of ticks(low, 1.15, true)) {
    svg.append(element("line", { x1: left, x2: width, y1: y(t), y2: y(t), class: "grid" }));
    svg.append(element("text", { x: left - 6, y: y(t) + 4, "text-anchor": "end" }, short(t)));
  }
  bars.forEach((v, i) => {
    const at = Math.max(v, low);
    const bar = element("rect", { x: x(i + 1) - step * 0.32, width: step * 0.64, y: y(at), height: height - bottom - y(at), class: "main", rx: 2 });
    bar.append(element("title", {}, `${name} ${i + 1}: ${short(v)}`));
    svg.append(bar);
  });
  const points = line.map((v, i) => [x(i), v]).filter(([, v]) => v > 1e-15);
  svg.append(element("polyline", { points: points.map(([px, v]) => `${px},${y(v)}`).join(" "), class: "line" }));
  for (const [px, v] of points) {
    const dot = element("circle", { cx: px, cy: y(v), r: 3.5, class: "accent" });
    dot.append(element("title", {}, `error left: ${percent(v)}`));
    svg.append(dot);
  }
  const every = Math.ceil((bars.length + 1) / 12);
  for (let i = 0; i <= bars.length; i += every) svg.append(element("text", { x: x(i), y: height - 18, "text-anchor": "middle" }, String(i)));
  svg.append(element("text", { x: (left + width) / 2, y: height - 2, "text-anchor": "middle" }, name + "s"));
}

// Horizontal bars with their values written beside.
export function rows(holder, entries, { label, format = quantity, marked = -1 }) {
  const [width, high] = [room(holder), 26];
  const widest = Math.min(190, 14 + 7 * Math.max(...entries.map((e) => e.name.length), 1));
  const svg = frame(holder, width, entries.length * high + 6, label);
  const largest = Math.max(...entries.map((e) => e.value), 1e-300);
  entries.forEach((e, i) => {
    const at = i * high + 4;
    const long = ((width - widest - 90) * e.value) / largest;
    const name = e.name.length > 25 ? "\u2026" + e.name.slice(-24) : e.name;
    svg.append(element("text", { x: widest - 8, y: at + 14, "text-anchor": "end" }, name));
    const bar = element("rect", { x: widest, y: at, width: Math.max(long, 1), height: high - 8, rx: 3, class: i === marked ? "accent" : e.pale ? "pale" : "main" });
    bar.append(element("title", {}, `${e.name}: ${format(e.value)}`));
    svg.append(bar, element("text", { x: widest + long + 6, y: at + 14, class: "value" }, format(e.value)));
  });
}

// A curve; `mark` is a point on it.
export function curve(holder, points, { label, xLabel, yLabel, logX = false, mark = null, rule = null, dots = true, formatX = short }) {
  const [width, height, left, bottom, top] = [room(holder), 280, 56, 44, 22];
  const svg = frame(holder, width, height, label);
  if (!points.length) return;
  const xs = points.map((p) => p[0]);
  const ys = points.map((p) => p[1]).concat(mark ? [mark[1]] : [], rule === null ? [] : [rule]);
  const x = scale(Math.min(...xs, mark ? mark[0] : Infinity), Math.max(...xs, mark ? mark[0] : -Infinity), left, width - 12, logX);
  const high = Math.max(...ys) * 1.05 || 1;
  const y = scale(0, high, height - bottom, top, false);
  for (const t of ticks(0, high, false)) {
    svg.append(element("line", { x1: left, x2: width, y1: y(t), y2: y(t), class: "grid" }));
    svg.append(element("text", { x: left - 6, y: y(t) + 4, "text-anchor": "end" }, short(t)));
  }
  for (const t of logX ? ticks(Math.min(...xs), Math.max(...xs), true) : ticks(Math.min(...xs), Math.max(...xs), false)) {
    svg.append(element("text", { x: x(t), y: height - bottom + 18, "text-anchor": "middle" }, formatX(t)));
  }
  if (rule !== null) svg.append(element("line", { x1: left, x2: width, y1: y(rule), y2: y(rule), class: "rule" }));
  svg.append(element("polyline", { points: points.map(([a, b]) => `${x(a)},${y(b)}`).join(" "), class: "line main" }));
  for (const [a, b] of points) {
    const dot = element("circle", { cx: x(a), cy: y(b), r: dots ? 3 : 7, class: dots ? "main" : "hit" });
    dot.append(element("title", {}, `${xLabel} ${formatX(a)}: ${short(b)}`));
    svg.append(dot);
  }
  if (mark) svg.append(element("circle", { cx: x(mark[0]), cy: y(mark[1]), r: 6.5, class: "accent" }));
  svg.append(element("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, xLabel));
  svg.append(element("text", { x: left, y: 11 }, yLabel));
}

const WHITE = [250, 250, 250], RED = [178, 24, 43], BLUE = [33, 102, 172], DEEP = [8, 48, 107];

export function colour(value, reach, signed) {
  const t = Math.max(-1, Math.min(1, value / (reach || 1)));
  const to = signed ? (t >= 0 ? RED : BLUE) : DEEP;
  return WHITE.map((w, i) => Math.round(w + (to[i] - w) * Math.abs(t)));
}

// Numbers as colours, one pixel each: white at zero.
const WRITTEN = 9, CELL = 48; // a matrix up to this size has its numbers in its cells, of so many pixels

export function map(canvas, values, { label, reach = null, signed = null, numbers = false }) {
  const [height, width] = [values.length, values[0].length];
  const flat = values.flat();
  const most = reach === null ? Math.max(...flat.map(Math.abs)) : reach;
  const both = signed === null ? flat.some((v) => v < 0) : signed;
  const written = numbers && height <= WRITTEN && width <= WRITTEN;
  const cell = written ? CELL : 1;
  canvas.width = width * cell;
  canvas.height = height * cell;
  const context = canvas.getContext("2d");
  flat.forEach((v, i) => {
    const [x, y] = [(i % width) * cell, Math.floor(i / width) * cell];
    const shade = colour(v, most, both);
    context.fillStyle = `rgb(${shade.join(",")})`;
    context.fillRect(x, y, cell, cell);
    if (!written) return;
    context.fillStyle = shade[0] * 0.3 + shade[1] * 0.59 + shade[2] * 0.11 > 140 ? "#111" : "#fff";
    context.textAlign = "center";
    context.textBaseline = "middle";
    const text = short(v);
    context.font = `${text.length > 5 ? 13 : text.length > 3 ? 16 : 20}px system-ui, sans-serif`;
    context.fillText(text, x + cell / 2, y + cell / 2);
  });
  canvas.classList.toggle("written", written);
  if (label) canvas.setAttribute("aria-label", label);
}

export function table(holder, head, body) {
  const make = (name, text, kind) => {
    const cell = document.createElement(name);
    cell.textContent = text;
    if (kind) cell.className = kind;
    return cell;
  };
  const top = document.createElement("thead");
  const line = document.createElement("tr");
  head.forEach((h) => {
    const cell = make("th", h.replace(/^~/, ""), h.startsWith("~") ? "words" : "");
    cell.scope = "col";
    line.append(cell);
  });
  top.append(line);
  const rest = document.createElement("tbody");
  for (const { cells, kind } of body) {
    const row = document.createElement("tr");
    if (kind) row.className = kind;
    cells.forEach((c, i) => row.append(make("td", c, head[i].startsWith("~") ? "words" : "")));
    rest.append(row);
  }
  holder.replaceChildren(top, rest);
}
