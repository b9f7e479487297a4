// Time spent on a pair. The clock runs while the tab is shown, and a stretch without a key, a pointer or a scroll counts
// for at most IDLE_MS: somebody who has left the desk is not reading.
export const IDLE_MS = 30_000;
const SIGNS_OF_LIFE = ["keydown", "pointerdown", "pointermove", "wheel", "touchmove", "scroll", "input", "focus"];

let counted = 0;
let lastSign = performance.now();

function settle() {
  const now = performance.now();
  if (!document.hidden) counted += Math.min(now - lastSign, IDLE_MS);
  lastSign = now;
}

export function startClock() {
  counted = 0;
  lastSign = performance.now();
}
export function elapsedMs() {
  settle();
  return Math.round(counted);
}
export const idleMs = () => performance.now() - lastSign;

for (const sign of SIGNS_OF_LIFE) window.addEventListener(sign, settle, { capture: true, passive: true });
document.addEventListener("visibilitychange", () => {
  // Going away ends a stretch that was shown; coming back begins one.
  if (document.hidden) counted += Math.min(performance.now() - lastSign, IDLE_MS);
  lastSign = performance.now();
});
