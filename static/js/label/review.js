// One of one's own labels again: the same keys, panes and drafts; submitting is a plain form.
import { focusStage, isPressable, root, shownPair, stage, verdictForm } from "./dom.js";
import { asksForGrade, changed, choose, grade, openRationale, unchoose } from "./choice.js";
import { endDraft, restoreDraft } from "./drafts.js";
import { answerWhich, isAskingWhich, openEditor, startEdit } from "./editor.js";
import { listen } from "./keys.js";
import { showHelp, startPanels } from "./panels.js";
import { markEdges, scrollBoth, toggleDiff, toggleRaw, watchPanes } from "./panes.js";
import { enrich } from "./rich.js";

const submit = () => verdictForm()?.requestSubmit();
const actions = {
  left: () => choose("left"),
  right: () => choose("right"),
  tie: () => choose("tie"),
  both_bad: () => choose("both_bad"),
  submit,
  rationale: openRationale,
  edit: startEdit,
  diff: toggleDiff,
  raw: toggleRaw,
  history: () => location.assign(root.dataset.history),
  help: showHelp,
};
function first(event) {
  if (isAskingWhich()) {
    answerWhich({ [root.dataset.keyLeft]: "left", [root.dataset.keyRight]: "right" }[event.key]);
    return true;
  }
  if (!verdictForm() || !asksForGrade()) return false;
  if (/^[1-4]$/.test(event.key)) grade(event.key);
  else if (event.key === "Escape") unchoose();
  else return false;
  return true;
}
listen({ actions, first, scroll: scrollBoth, submitFromText: () => (submit(), true) });

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-edit], [data-raw], [data-diff]");
  if (!target) return;
  if (target.matches("[data-edit]")) openEditor(target.dataset.edit);
  else if (target.matches("[data-raw]")) toggleRaw();
  else toggleDiff();
});
document.addEventListener("change", (event) => {
  if (!event.target.matches("[name=verdict], [name=strength]")) return;
  changed();
  if (!event.target.matches(":focus-visible") && isPressable(event.target)) focusStage();
});

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-verdict-form]")) return;
  const sending = endDraft();
  if (!sending) return;
  event.preventDefault();
  sending.then(() => event.target.submit());
});

startPanels();
if (verdictForm()) restoreDraft(shownPair());
if (stage()) {
  enrich(shownPair());
  watchPanes();
  markEdges();
}
