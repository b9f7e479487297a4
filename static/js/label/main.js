// The labelling screen: which key and which button does what. Without these scripts plain forms work.
import { find, focusStage, isPressable, isTyping, pairId, postQuietly, root, shownPair, stage, verdictForm } from "./dom.js";
import { asksForGrade, changed, choose, grade, openRationale, unchoose } from "./choice.js";
import { IDLE_MS, idleMs } from "./clock.js";
import { answerWhich, isAskingWhich, openEditor, startEdit } from "./editor.js";
import { openFlag } from "./flag.js";
import * as flow from "./flow.js";
import { listen } from "./keys.js";
import { showHelp, startPanels, toggleGuidelines } from "./panels.js";
import { scrollBoth, toggleDiff, toggleRaw } from "./panes.js";
import { hint } from "./say.js";

const HEARTBEAT_MS = 60_000;

const onPair = (act) => () => flow.isWaiting() || act();
const pick = (value) => onPair(() => choose(value) && flow.amendHeld());
const actions = {
  left: pick("left"),
  right: pick("right"),
  tie: pick("tie"),
  both_bad: pick("both_bad"),
  submit: flow.submitVerdict,
  skip: flow.skip,
  undo: () => flow.undo(find("[data-undo-form]")),
  rationale: onPair(openRationale),
  edit: onPair(startEdit),
  flag: onPair(openFlag),
  diff: toggleDiff,
  raw: toggleRaw,
  guidelines: toggleGuidelines,
  history: () => location.assign(root.dataset.history),
  help: showHelp,
};
// Keys whose meaning depends on where the person is: feedback, "edit which?", the grade.
function first(event, action) {
  if (flow.feedback() && (action === "submit" || action === "skip") && !isPressable(event.target)) {
    flow.continueAfterFeedback();
    return true;
  }
  if (isAskingWhich()) {
    answerWhich(action);
    return true;
  }
  if (flow.isWaiting() || !asksForGrade()) return false;
  if (/^[1-4]$/.test(event.key)) {
    grade(event.key);
    flow.amendHeld();
    return true;
  }
  if (event.key === "Escape") unchoose();
  return event.key === "Escape";
}
function submitFromText(event) {
  if (!isTyping(event.target) || !stage().contains(event.target)) return false;
  focusStage();
  flow.submitVerdict();
  return true;
}
listen({ actions, first, scroll: scrollBoth, submitFromText });

document.addEventListener("submit", (event) => {
  const isUndo = event.target.matches("[data-undo-form]");
  if (!isUndo && !event.target.matches("[data-verdict-form]")) return;
  event.preventDefault();
  if (isUndo) flow.undo(event.target);
  else if (event.submitter?.matches("[data-skip]")) flow.skip();
  else flow.submitVerdict();
});
document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-flag], [data-edit], [data-raw], [data-diff], [data-continue]");
  if (!target || !root.contains(target)) return;
  if (target.matches("[data-flag]")) openFlag();
  else if (target.matches("[data-edit]")) openEditor(target.dataset.edit);
  else if (target.matches("[data-raw]")) toggleRaw();
  else if (target.matches("[data-diff]")) toggleDiff();
  else if (flow.feedback()) flow.continueAfterFeedback();
  event.preventDefault();
});
// A button pressed with the mouse gives the focus back, so that Space and Enter keep their meaning.
document.addEventListener("click", (event) => {
  const opensSomething = event.target.closest("[data-edit], [data-flag], [data-help], [data-rationale], dialog, .turns");
  if (event.detail > 0 && root.contains(event.target) && isPressable(event.target) && !opensSomething) focusStage();
});
document.addEventListener("change", (event) => {
  if (!event.target.matches("[name=verdict], [name=strength]") || !verdictForm()?.contains(event.target)) return;
  changed();
  flow.amendHeld();
  if (!event.target.matches(":focus-visible")) focusStage();
});
document.addEventListener("input", (event) => {
  if (event.target.matches("textarea") && stage().contains(event.target)) flow.amendHeld();
});
document.addEventListener("click", (event) => event.target.closest("[data-editor-remove]") && flow.amendHeld());
find("[data-unsaved-retry]").addEventListener("click", flow.retry);

// While somebody works here, their pairs stay theirs; a hold that ran out meanwhile is told.
async function keepHolds() {
  if (document.hidden || idleMs() > HEARTBEAT_MS + IDLE_MS) return;
  const pair = pairId(shownPair());
  const response = await postQuietly(root.dataset.heartbeat, {});
  if (!response?.ok || response.redirected || !pair || pair !== pairId(shownPair())) return;
  const { held } = await response.json();
  if (!(pair in held)) hint("You were away, and a colleague may have this pair; yours is taken while it has room");
}
setInterval(keepHolds, HEARTBEAT_MS);

startPanels();
flow.startFlow();
