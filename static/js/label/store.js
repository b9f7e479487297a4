// What this browser keeps for one person in one study. Another person's things are neither read nor sent, and what the
// server has as well (drafts) is removed when somebody else opens the screen here.
import { root } from "./dom.js";

const PREFIX = "studio";
const owner = `${root.dataset.user}:${root.dataset.study}`;
const name = (kind, id) => `${PREFIX}:${kind}:${owner}:${id}`;

// Without storage (a private window, a full disk) the screen works, and forgets when it is closed.
function guarded(act, otherwise = null) {
  try {
    return act();
  } catch {
    return otherwise;
  }
}

export function keep(kind, id, value) {
  guarded(() => localStorage.setItem(name(kind, id), JSON.stringify(value)));
}
export function forget(kind, id) {
  guarded(() => localStorage.removeItem(name(kind, id)));
}
export function kept(kind, id) {
  return guarded(() => JSON.parse(localStorage.getItem(name(kind, id))));
}
export function allKept(kind) {
  const start = name(kind, "");
  const keys = guarded(() => Object.keys(localStorage), []).filter((key) => key.startsWith(start));
  return keys.map((key) => ({ id: key.slice(start.length), value: guarded(() => JSON.parse(localStorage.getItem(key))) }));
}

const OLDEST_MS = 14 * 24 * 3600 * 1000;
export function tidy() {
  const mine = new RegExp(`^${PREFIX}:draft:${root.dataset.user}:`);
  guarded(() => {
    for (const key of Object.keys(localStorage)) {
      if (!key.startsWith(`${PREFIX}:draft:`)) continue;
      const at = guarded(() => JSON.parse(localStorage.getItem(key)).at, 0) || 0;
      if (!mine.test(key) || Date.now() - at > OLDEST_MS) localStorage.removeItem(key);
    }
  });
}
