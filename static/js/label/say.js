// Saying what happened: a word beside Undo, a sentence for screen readers, problems, and the trail of the last ten acts.
import { find } from "./dom.js";

const TRAIL_LENGTH = 10;
const SIGNS = { left: "A", right: "B", tie: "=", both_bad: "×", skip: "»", flag: "⚑" };
const NAMES = { left: "A", right: "B", tie: "Tie", both_bad: "Both bad", skip: "Skipped", flag: "Flagged" };
const CAUSES = {
  "signed-out": "you are signed out, or no longer in this study",
  server: "the server had an error",
  unreachable: "the server cannot be reached",
};

const isCalm = window.matchMedia("(prefers-reduced-motion: reduce)");

export function announce(text) {
  const line = find("[data-announce]");
  // The same sentence again is a change only when the line was empty between.
  line.textContent = "";
  requestAnimationFrame(() => (line.textContent = text));
}
export function say(text) {
  const saved = find("[data-saved]");
  saved.textContent = text ? `${text} ·` : "";
  if (!isCalm.matches) saved.animate([{ opacity: 0 }, { opacity: 1 }], 300);
  if (text) announce(text);
}
export function hint(text) {
  const line = find("[data-hint]");
  if (!line) return;
  line.textContent = text;
  clearTimeout(line.timer);
  if (text) line.timer = setTimeout(() => (line.textContent = ""), 4000);
}

// What was typed into a label that was refused is shown, so that it can be copied; `label` leads to the one that stands.
export function tellProblem(text, { typed = "", label = "" } = {}) {
  const line = find("[data-problem-line]");
  line.replaceChildren(text);
  line.hidden = !text;
  if (text && label) line.append(linkTo(label));
  if (!text || !typed) return;
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  const pre = document.createElement("pre");
  summary.textContent = "What you wrote";
  pre.textContent = typed;
  pre.dir = "auto";
  details.append(summary, pre);
  line.append(details);
}
function linkTo(label) {
  const link = document.createElement("a");
  link.href = label;
  link.textContent = "Compare the two";
  return link;
}
export function tellUnsaved(why, count = 1) {
  const box = find("[data-unsaved]");
  box.hidden = !why;
  if (!why) return;
  const more = count > 1 ? ` (${count} things)` : "";
  find("[data-unsaved-text]").textContent =
    `Not saved yet${more}: ${CAUSES[why]}. What you did is kept here and sent again by itself.`;
  find("[data-unsaved-login]").hidden = why !== "signed-out";
}

const traceOf = (pair) => find(`[data-trail] [data-of="${pair}"]`);
// What was done last, as this page knows it: what an undo takes back.
export const lastTrace = () => find("[data-trail]").lastElementChild?.dataset.of;

// An act that an earlier visit had kept may stand there already, in its place; a new one on that pair is the latest.
export function leaveTrail(kind, pair, { wasKept = false } = {}) {
  const trail = find("[data-trail]");
  const item = document.createElement("li");
  item.className = `trail-${kind}`;
  item.title = NAMES[kind];
  item.dataset.of = pair;
  item.innerHTML = `<span aria-hidden="true">${SIGNS[kind]}</span>`;
  const name = document.createElement("span");
  name.className = "visually-hidden";
  name.textContent = NAMES[kind];
  item.append(name);
  const before = traceOf(pair);
  if (before && wasKept) before.replaceWith(item);
  else {
    before?.remove();
    trail.append(item);
  }
  while (trail.children.length > TRAIL_LENGTH) trail.firstElementChild.remove();
}
export function retraceTrail(pair) {
  traceOf(pair)?.remove();
}
