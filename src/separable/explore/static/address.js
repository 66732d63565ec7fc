// The address holds what is shown, so that a view can be shared.

const kept = new URLSearchParams(location.hash.slice(1));

export const recall = (name) => kept.get(name);

// Keep some values; empty ones leave the address.
export function remember(values) {
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined || value === "") kept.delete(name);
    else kept.set(name, value);
  }
  try {
    history.replaceState(null, "", `#${kept}`);
  } catch { /* a page in a frame of another site may not */ }
}
