// Report of the cost of a network: its largest layers by the selected count.
import { bytes, quantity, rows } from "./charts.js";

const chosen = document.getElementById("count");

function show() {
  const [key, format] = { multiplications: ["multiplications", quantity], parameters: ["parameters", quantity], bytes: ["bytes", bytes] }[chosen.value];
  const largest = [...DATA.layers].sort((a, b) => b[key] - a[key]).slice(0, 20).filter((x) => x[key] > 0);
  const told = largest.slice(0, 5).map((x) => `${x.name} ${format(x[key])}`).join("; ");
  const bars = largest.flatMap((x) => (key === "multiplications" && x.separated !== null ? [{ name: x.name, value: x[key], pale: true }, { name: "\u2192 separated", value: x.separated }] : [{ name: x.name, value: x[key] }]));
  rows(document.getElementById("layers"), bars, { label: `The layers with the most ${chosen.value}: ${told}`, format });
}

chosen.addEventListener("change", show);
show();
