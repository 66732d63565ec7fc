// What the page says about its work: that it computes, what failed, and what is selected.

export function say(id, text) {
  const holder = document.getElementById(id);
  holder.textContent = text || "";
  holder.hidden = !text;
}

// The sign in the header; short computations do not show it.
const SIGN_AFTER = 200; // ms
let computing = 0, alarm = null;
function count(step) {
  computing += step;
  const sign = document.getElementById("computing");
  if (computing && alarm === null) alarm = setTimeout(() => (sign.textContent = "Computing \u2026"), SIGN_AFTER);
  if (computing) return;
  clearTimeout(alarm);
  alarm = null;
  sign.textContent = "";
}

// Run a task that may fail and show its error; only the task started last reports. The results that it
// replaces are pale meanwhile.
const turns = new Map();
export async function attempt(problem, work, ...stale) {
  const turn = (turns.get(problem) || 0) + 1;
  turns.set(problem, turn);
  const holders = stale.map((id) => document.getElementById(id)).filter(Boolean);
  for (const holder of holders) {
    holder.classList.add("busy");
    holder.setAttribute("aria-busy", "true");
  }
  count(1);
  try {
    const found = await work();
    if (turns.get(problem) !== turn) return null;
    say(problem, "");
    return found;
  } catch (error) {
    if (turns.get(problem) === turn) say(problem, error.message);
    return null;
  } finally {
    count(-1);
    if (turns.get(problem) === turn) {
      for (const holder of holders) {
        holder.classList.remove("busy");
        holder.removeAttribute("aria-busy");
      }
    }
  }
}

export function options(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
}

// Select what is shown, also if it is none of the options: it then gets one of its own.
export function choose(select, value, text) {
  select.querySelector("[data-own]")?.remove();
  if (![...select.options].some((option) => option.value === value)) {
    const own = new Option(text, value);
    own.dataset.own = "";
    select.prepend(own);
  }
  select.value = value;
}
