// Grid in which a kernel is drawn: paint with the pointer, or move with the keys and type.
import { colour, inkOn, onTheme } from "./maps.js";

export class Board {
  constructor(holder, brush) {
    this.holder = holder;
    this.brush = brush;
    this.painting = false;
    onTheme(() => this.show());
    this.typed = "";
    holder.addEventListener("pointerdown", (event) => this.#paint(event, true));
    holder.addEventListener("pointermove", (event) => this.painting && this.#paint(event, false));
    addEventListener("pointerup", () => (this.painting = false));
    holder.addEventListener("keydown", (event) => this.#key(event));
  }

  resize(size) {
    const before = this.values || [];
    const shift = Math.floor((size - before.length) / 2);
    this.values = Array.from({ length: size }, (_, y) => Array.from({ length: size }, (_, x) => before[y - shift]?.[x - shift] ?? 0));
    this.holder.replaceChildren();
    this.holder.style.gridTemplateColumns = `repeat(${size}, 1fr)`;
    this.cells = this.values.map((row, y) => {
      const line = document.createElement("div");
      line.setAttribute("role", "row");
      this.holder.append(line);
      return row.map((_, x) => {
        const cell = document.createElement("div");
        cell.setAttribute("role", "gridcell");
        cell.dataset.at = `${y} ${x}`;
        cell.tabIndex = y === 0 && x === 0 ? 0 : -1;
        line.append(cell);
        return cell;
      });
    });
    this.show();
  }

  clear() {
    for (const row of this.values) row.fill(0);
    this.show();
  }

  show() {
    const reach = Math.max(...this.values.flat().map(Math.abs), 1e-300);
    this.cells.forEach((row, y) => row.forEach((cell, x) => {
      const value = this.values[y][x];
      const [r, g, b] = colour(value, reach);
      cell.style.background = `rgb(${r} ${g} ${b})`;
      cell.style.color = inkOn([r, g, b]);
      cell.textContent = value === 0 ? "" : +value.toPrecision(3);
      cell.setAttribute("aria-label", `row ${y + 1}, column ${x + 1}: ${value}`);
    }));
  }

  #set(y, x, value) {
    if (Number.isFinite(value)) this.values[y][x] = value;
    this.show();
  }

  #paint(event, first) {
    const cell = document.elementFromPoint(event.clientX, event.clientY);
    if (!cell?.dataset?.at || !this.holder.contains(cell)) return;
    if (first) this.painting = true;
    const [y, x] = cell.dataset.at.split(" ").map(Number);
    this.#focus(y, x);
    this.#set(y, x, Number(this.brush.value));
    event.preventDefault();
  }

  #focus(y, x) {
    for (const cell of this.cells.flat()) cell.tabIndex = -1;
    this.cells[y][x].tabIndex = 0;
    this.cells[y][x].focus();
    this.typed = "";
  }

  #key(event) {
    const at = event.target.dataset.at;
    if (!at) return;
    const [y, x] = at.split(" ").map(Number);
    const size = this.values.length;
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step) {
      this.#focus(Math.min(size - 1, Math.max(0, y + step[0])), Math.min(size - 1, Math.max(0, x + step[1])));
    } else if (event.key === " ") {
      this.#set(y, x, Number(this.brush.value));
    } else if (event.key === "Backspace" || event.key === "Delete") {
      this.typed = "";
      this.#set(y, x, 0);
    } else if (/^[-.0-9]$/.test(event.key)) {
      this.typed += event.key;
      if (!Number.isNaN(Number(this.typed))) this.#set(y, x, Number(this.typed));
    } else {
      return;
    }
    event.preventDefault();
  }
}
