// The two texts: raw or rendered, their differing words, scrolling both, and the edge that says "more".
import { find, isTyping, root, shownPair } from "./dom.js";
import { diffTexts } from "./diff.js";
import { hint } from "./say.js";

const bodies = () => [...(shownPair()?.querySelectorAll("[data-pane-body]") || [])];
const texts = (pair) => [...pair.querySelectorAll("[data-pane-text]")];

function setPressed(button, isOn) {
  button?.setAttribute("aria-pressed", String(isOn));
}
export function toggleRaw() {
  const isRaw = root.classList.toggle("show-raw");
  if (isRaw) setDiff(false);
  setPressed(find("[data-raw]"), isRaw);
  markEdges();
}
export function toggleDiff() {
  setDiff(!root.classList.contains("show-diff"));
}
function setDiff(isOn) {
  root.classList.toggle("show-diff", isOn);
  setPressed(find("[data-diff]"), isOn);
  if (isOn) {
    root.classList.remove("show-raw");
    setPressed(find("[data-raw]"), false);
    showDiff();
  }
  markEdges();
}

// Both sides are marked alike: a colour for "added" would take sides.
function marked(runs) {
  const pre = document.createElement("pre");
  pre.className = "diffed";
  pre.dir = "auto";
  for (const [text, isShared] of runs) {
    if (isShared) pre.append(text);
    else {
      const mark = document.createElement("mark");
      mark.textContent = text;
      pre.append(mark);
    }
  }
  return pre;
}
export function showDiff() {
  const pair = shownPair();
  if (!pair || !root.classList.contains("show-diff") || pair.querySelector(".diffed")) return;
  const [left, right] = texts(pair).map((element) => element.textContent);
  if (left === undefined || right === undefined) return;
  const found = diffTexts(left, right);
  if (!found) {
    setDiff(false);
    return hint("These texts are too long to compare");
  }
  bodies().forEach((body, side) => body.append(marked(found[side])));
}

/* Scrolling. */
const STEPS = { ArrowDown: 64, ArrowUp: -64 };
const PAGES = { PageDown: 0.85, PageUp: -0.85 };

function distance(key, body) {
  if (key in STEPS) return STEPS[key];
  if (key in PAGES) return PAGES[key] * body.clientHeight;
  return { Home: -body.scrollHeight, End: body.scrollHeight }[key];
}
// Keys that scroll move both texts together, unless one of them has the focus.
export function scrollBoth(event) {
  if (isTyping(event.target) || event.target.closest("[data-pane-body], .prompt-box, [type=radio], .guidelines-panel")) return false;
  const scrolling = bodies().filter((body) => body.scrollHeight > body.clientHeight + 1);
  if (!scrolling.length || distance(event.key, scrolling[0]) === undefined) return false;
  for (const body of scrolling) body.scrollBy(0, distance(event.key, body));
  return true;
}
export function markEdges() {
  for (const body of bodies()) {
    const left = body.scrollHeight - body.clientHeight - body.scrollTop;
    body.parentElement.classList.toggle("has-more", left > 4);
  }
}
const sizes = new ResizeObserver(markEdges);
document.addEventListener("scroll", (event) => event.target.matches?.("[data-pane-body]") && markEdges(), {
  capture: true,
  passive: true,
});
export function watchPanes() {
  sizes.disconnect();
  for (const body of bodies()) sizes.observe(body);
}
