// Requests to the server, and the messages shown when they fail.

export async function ask(name, question) {
  const options = question === undefined ? {} : { method: "POST", body: JSON.stringify(question), headers: { "content-type": "application/json" } };
  return answered(fetch(`api/${name}`, options));
}

export async function upload(kind, file, maxBytes = 32 * 2 ** 20) {
  if (file.size > maxBytes) throw new Error(`too large: at most ${maxBytes >> 20} MiB are accepted; this file has ${(file.size / 2 ** 20).toFixed(0)} MiB`);
  const body = new FormData();
  body.append("file", file);
  return answered(fetch(`api/upload/${kind}`, { method: "POST", body }));
}

async function answered(request) {
  let response;
  try {
    response = await request;
  } catch {
    throw new Error("the server does not answer. Is separable explore still running?");
  }
  let found = {};
  try {
    found = await response.json();
  } catch { /* reported below */ }
  if (!response.ok) throw new Error(found.error || `the server answered with status ${response.status}`);
  return found;
}

export function say(id, text) {
  const holder = document.getElementById(id);
  holder.textContent = text || "";
  holder.hidden = !text;
}

// Run a task that may fail and show its error; only the task started last reports.
const turns = new Map();
export async function attempt(problem, work, busy) {
  const turn = (turns.get(problem) || 0) + 1;
  turns.set(problem, turn);
  const holder = busy ? document.getElementById(busy) : null;
  holder?.classList.add("busy");
  try {
    const found = await work();
    if (turns.get(problem) !== turn) return null;
    say(problem, "");
    return found;
  } catch (error) {
    if (turns.get(problem) === turn) say(problem, error.message);
    return null;
  } finally {
    if (turns.get(problem) === turn) holder?.classList.remove("busy");
  }
}

export function options(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
}
