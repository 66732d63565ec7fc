// The page: tabs, theme, and the three views.
import { start as startKernel } from "./kernel.js";
import { start as startLayers } from "./layers.js";
import { start as startConversion } from "./conversion.js";
import { ask, say } from "./api.js";

const tabs = [...document.querySelectorAll('[role="tab"]')];
const started = new Set();
let offered = null;

const views = { "tab-kernel": startKernel, "tab-layers": startLayers, "tab-networks": startConversion };

function select(tab, focus) {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", chosen);
    other.tabIndex = chosen ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (focus) tab.focus();
  if (offered && !started.has(tab.id)) {
    started.add(tab.id);
    views[tab.id](offered);
  }
}

tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1 : step ? (i + step + tabs.length) % tabs.length : null;
    if (to !== null) {
      event.preventDefault();
      select(tabs[to], true);
    }
  });
});

// Before the views have started, a form must not leave the page.
document.addEventListener("submit", (event) => event.preventDefault());

const theme = document.getElementById("theme");
const wanted = () => document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
function named() {
  theme.textContent = wanted() === "dark" ? "Light" : "Dark";
  theme.setAttribute("aria-label", `Change to ${theme.textContent.toLowerCase()} colours`);
}
try {
  const kept = localStorage.getItem("separable-theme");
  if (kept) document.documentElement.dataset.theme = kept;
} catch { /* storage may be off */ }
named();
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = wanted() === "dark" ? "light" : "dark";
  try { localStorage.setItem("separable-theme", document.documentElement.dataset.theme); } catch { /* as above */ }
  named();
});

try {
  offered = await ask("start");
  select(tabs.find((t) => t.getAttribute("aria-selected") === "true"));
} catch (error) {
  say("kernel-problem", error.message);
}
