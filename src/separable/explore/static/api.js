// Requests to the server.

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
