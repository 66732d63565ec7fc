// Report of a conversion: error against budget, and multiplications per layer.
import { curve, percent, quantity, rows } from "./charts.js";

const place = (id) => document.getElementById(id);
const points = DATA.curve;
const slider = place("share");

function show() {
  const at = Number(slider.value);
  const [share, error] = points[at];
  place("share-out").textContent = percent(share);
  place("share-text").textContent = `With ${percent(share)} of the multiplications the layers' relative error is ${error.toPrecision(2)} (root mean square)${at === DATA.stands ? ": this conversion." : "."}`;
  curve(place("tradeoff"), points, { label: `error over multiplications; this conversion at ${DATA.share === null ? "no known share" : percent(DATA.share)}`, xLabel: "multiplications, fraction of the dense network", yLabel: "relative error of a layer", mark: points[at], dots: false, formatX: percent });
}

if (points.length) {
  slider.max = points.length - 1;
  slider.value = DATA.stands;
  slider.addEventListener("input", show);
  show();
} else {
  place("tradeoff-card").hidden = true;
}

const layers = [...DATA.layers].sort((a, b) => b.before - a.before).slice(0, 15);
rows(place("layers"), layers.flatMap((x) => [{ name: x.name, value: x.before, pale: true }, { name: "\u2192 " + (x.pattern || "not converted"), value: x.after }]), { label: `Multiplications of the ${layers.length} largest layers before and after`, format: quantity });
