// The page: tabs, theme, and the views.
import { start as startKernel } from "./kernel.js";
import { start as startLayers } from "./layers.js";
import { start as startVolumes } from "./volumes.js";
import { start as startConversion } from "./conversion.js";
import { ask } from "./api.js";
import { recall, remember } from "./address.js";
import { isDark } from "./maps.js";
import { options, say } from "./status.js";

const views = { "tab-kernel": startKernel, "tab-layers": startLayers, "tab-volumes": startVolumes, "tab-networks": startConversion };
const started = new Set();
let tabs = [], offered = null;

function select(tab, focus) {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", chosen);
    other.tabIndex = chosen ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (focus) tab.focus();
  remember({ view: tab.id === "tab-kernel" ? "" : tab.id.slice(4) });
  if (offered && !started.has(tab.id)) {
    started.add(tab.id);
    views[tab.id](offered);
  }
}

function listen(tab, i) {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1 : step ? (i + step + tabs.length) % tabs.length : null;
    if (to !== null) {
      event.preventDefault();
      select(tabs[to], true);
    }
  });
}

// Before the views have started, a form must not leave the page.
document.addEventListener("submit", (event) => event.preventDefault());

const theme = document.getElementById("theme");
function named() {
  theme.textContent = isDark() ? "Light" : "Dark";
  theme.setAttribute("aria-label", `Change to ${theme.textContent.toLowerCase()} colours`);
}
try {
  const kept = localStorage.getItem("separable-theme");
  if (kept) document.documentElement.dataset.theme = kept;
} catch { /* storage may be off */ }
named();
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("separable-theme", document.documentElement.dataset.theme); } catch { /* as above */ }
  named();
});

try {
  offered = await ask("start");
  const missing = offered.needs === "browser" ? "server" : "browser";
  for (const part of document.querySelectorAll(`[data-needs="${missing}"]`)) part.remove();
  for (const part of document.querySelectorAll('[data-needs="browser"]')) part.hidden = false;
  if (offered.modes) options(document.getElementById("mode"), offered.modes.map((name) => [name, name]));
} catch (error) {
  say("kernel-problem", error.message);
}
tabs = [...document.querySelectorAll('[role="tab"]')];
tabs.forEach(listen);
const wanted = tabs.find((tab) => tab.id === `tab-${recall("view")}`);
select(wanted || tabs[0]);
