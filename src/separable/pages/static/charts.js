// Charts in SVG and tables, with a text for readers who do not see them.
import { short } from "./maps.js";

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
    if (high / low < 120) { // few powers of ten: also 2 and 5
      for (let p = Math.floor(Math.log10(low)); p <= last; p += 1) found.push(...[1, 2, 5].map((m) => m * 10 ** p).filter((t) => t >= low && t <= high * (1 + 1e-9)));
      return found;
    }
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

// Several curves on logarithmic axes. A series has a name, points and a look: main, accent, quiet or pale;
// `dashed` lines are predictions beside measurements, `dots` alone are measurements.
export function lines(holder, series, { label, xLabel, yLabel, formatX = short, formatY = short, xTicks = null, rule = null }) {
  const shown = series.map((s) => ({ ...s, points: s.points.filter(([a, b]) => a > 0 && b > 0) })).filter((s) => s.points.length);
  const [width, height, left, bottom, top] = [room(holder), 300, 62, 44, 24];
  const svg = frame(holder, width, height, label);
  if (!shown.length) return;
  const xs = shown.flatMap((s) => s.points.map((p) => p[0]));
  const ys = shown.flatMap((s) => s.points.map((p) => p[1]));
  const [low, high] = [Math.min(...ys) / 1.3, Math.max(...ys) * 1.3];
  const x = scale(Math.min(...xs), Math.max(...xs), left, width - 16, true);
  const y = scale(low, high, height - bottom, top, true);
  for (const t of ticks(low, high, true)) {
    svg.append(element("line", { x1: left, x2: width, y1: y(t), y2: y(t), class: "grid" }));
    svg.append(element("text", { x: left - 6, y: y(t) + 4, "text-anchor": "end" }, formatY(t)));
  }
  for (const t of xTicks || ticks(Math.min(...xs), Math.max(...xs), true)) svg.append(element("text", { x: x(t), y: height - bottom + 18, "text-anchor": "middle" }, formatX(t)));
  if (rule) {
    svg.append(element("line", { x1: x(rule.at), x2: x(rule.at), y1: top, y2: height - bottom, class: "rule" }));
    svg.append(element("text", { x: x(rule.at) - 5, y: top + 10, "text-anchor": "end" }, rule.text));
  }
  for (const { name, points, look, dashed, dots, marks } of shown) {
    const at = points.map(([a, b]) => [x(a), y(b)]);
    if (!dots) svg.append(element("polyline", { points: at.map((p) => p.join(",")).join(" "), class: `line ${look}${dashed ? " dashed" : ""}` }));
    points.forEach(([a, b], i) => {
      const dot = element("circle", { cx: at[i][0], cy: at[i][1], r: dots ? 5 : 3, class: look });
      dot.append(element("title", {}, `${name}, ${marks?.[i] || `${xLabel} ${formatX(a)}`}: ${formatY(b)}`));
      svg.append(dot);
      if (dots && marks?.[i]) svg.append(element("text", { x: at[i][0] > width / 2 ? at[i][0] - 9 : at[i][0] + 9, y: at[i][1] + 4, "text-anchor": at[i][0] > width / 2 ? "end" : "start", class: "value" }, marks[i]));
    });
  }
  svg.append(element("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, xLabel));
  svg.append(element("text", { x: left, y: 11 }, yLabel));
  holder.append(key(shown.filter((s) => !s.marks))); // points have their names beside them
}

// The names of curves beside a sample of each.
function key(series) {
  const list = document.createElement("ul");
  list.className = "key";
  for (const { name, look, dashed, dots } of series) {
    const item = document.createElement("li");
    const sample = element("svg", { viewBox: "0 0 26 10", width: 26, height: 10, "aria-hidden": "true" });
    sample.append(dots ? element("circle", { cx: 13, cy: 5, r: 4.5, class: look }) : element("line", { x1: 0, x2: 26, y1: 5, y2: 5, class: `line ${look}${dashed ? " dashed" : ""}` }));
    item.append(sample, name);
    list.append(item);
  }
  return list;
}

// A table. A heading with ~ before it is a column of words, one with - is left out on narrow screens. A cell is
// text, or an object with `text` and a `note` below it.
export function table(holder, head, body) {
  const marks = head.map((h) => h.match(/^[~-]*/)[0]);
  const kinds = marks.map((m) => [m.includes("~") && "words", m.includes("-") && "minor"].filter(Boolean).join(" "));
  const make = (name, content, kind) => {
    const cell = document.createElement(name);
    cell.append(content?.text ?? content);
    if (content?.note) cell.append(Object.assign(document.createElement("small"), { textContent: content.note }));
    if (kind) cell.className = kind;
    return cell;
  };
  const line = document.createElement("tr");
  head.forEach((h, i) => {
    const cell = make("th", h.slice(marks[i].length), kinds[i]);
    cell.scope = "col";
    line.append(cell);
  });
  const top = document.createElement("thead");
  top.append(line);
  const rest = document.createElement("tbody");
  for (const { cells, kind } of body) {
    const row = document.createElement("tr");
    if (kind) row.className = kind;
    cells.forEach((c, i) => row.append(make("td", c, kinds[i])));
    rest.append(row);
  }
  holder.replaceChildren(top, rest);
}
