// Choosing a verdict, grading it, and writing why.
import { chosenVerdict, focusStage, root, verdictForm } from "./dom.js";
import { noteDraft } from "./drafts.js";
import { announce } from "./say.js";

const isSide = (verdict) => verdict === "left" || verdict === "right";
export const asksForGrade = () => Boolean(root.dataset.askStrength) && isSide(chosenVerdict());

export function choose(value) {
  const input = verdictForm()?.querySelector(`[name=verdict][value=${value}]`);
  if (!input) return false;
  input.checked = true;
  changed();
  focusStage();
  return true;
}
export function grade(value) {
  const input = verdictForm()?.querySelector(`[name=strength][value="${value}"]`);
  if (!input) return;
  input.checked = true;
  noteDraft();
  announce(`${input.closest("label").textContent.trim()} better`);
}
export function unchoose() {
  for (const input of verdictForm().querySelectorAll("[name=verdict], [name=strength]")) input.checked = false;
  noteDraft();
}
// A grade belongs to a side: it goes with it.
export function changed() {
  if (!isSide(chosenVerdict())) verdictForm().querySelectorAll("[name=strength]").forEach((input) => (input.checked = false));
  else if (root.dataset.askStrength) announce("By how much? 1 to 4, or Enter without a grade");
  noteDraft();
}

export function openRationale() {
  const box = verdictForm()?.querySelector("[data-rationale]");
  if (!box) return;
  box.open = true;
  box.querySelector("textarea").focus();
}
function tellLength(area) {
  area.closest("[data-rationale]").classList.toggle("has-text", Boolean(area.value.trim()));
}
document.addEventListener("input", (event) => {
  if (!event.target.matches("[name=rationale]")) return;
  tellLength(event.target);
  noteDraft();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !event.target.matches("[name=rationale]")) return;
  event.preventDefault();
  if (!event.target.value.trim()) event.target.closest("[data-rationale]").open = false;
  focusStage();
});
document.addEventListener("label:filled", (event) => {
  const area = event.target.elements.rationale;
  if (!area) return;
  tellLength(area);
  area.closest("[data-rationale]").open = Boolean(area.value);
});
