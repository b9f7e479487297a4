// Writing a better version of one response: an editor under its text, prefilled. What is in it is part of the label.
import { chosenVerdict, find, focusStage, root, shownPair, verdictForm } from "./dom.js";
import { noteDraft } from "./drafts.js";
import { hint } from "./say.js";

const NAMES = { left: "A", right: "B" };
const paneOf = (side) => shownPair().querySelector(`[data-side=${side}]`);
const originalOf = (side) => paneOf(side).querySelector("[data-pane-text]").textContent;
const fields = () => verdictForm().elements;
let asksWhich = false;

export const isAskingWhich = () => asksWhich;

// `e`: the chosen response, the one with an edit, or a question which of the two.
export function startEdit() {
  if (!root.dataset.allowEdit || !verdictForm()) return;
  const side = fields().edit_side.value || (chosenVerdict() in NAMES ? chosenVerdict() : "");
  if (side) return openEditor(side);
  asksWhich = true;
  hint(`Edit which? ${root.dataset.keyLeft} A · ${root.dataset.keyRight} B`);
}
export function answerWhich(action) {
  asksWhich = false;
  hint("");
  if (action in NAMES) openEditor(action);
}

export function openEditor(side) {
  const { edit_side: sideField, edit_text: textField } = fields();
  if (sideField.value && sideField.value !== side) {
    return hint(`One edit per pair: remove the one of ${NAMES[sideField.value]} first`);
  }
  const box = showEditor(side, textField.value || originalOf(side));
  box.querySelector("textarea").focus();
}

function showEditor(side, text) {
  const pane = paneOf(side);
  const open = pane.querySelector("[data-editor]");
  if (open) return open;
  const box = find("[data-editor-template]").content.firstElementChild.cloneNode(true);
  const area = box.querySelector("textarea");
  area.value = text;
  area.setAttribute("aria-label", `Your version of response ${NAMES[side]}`);
  area.addEventListener("input", () => write(side, area.value));
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    closeIfUnchanged(side);
    focusStage();
  });
  box.querySelector("[data-editor-remove]").addEventListener("click", () => removeEdit(side));
  pane.classList.add("is-edited");
  pane.append(box);
  return box;
}
function write(side, text) {
  const isChanged = text.trim() !== originalOf(side).trim();
  fields().edit_side.value = isChanged ? side : "";
  fields().edit_text.value = isChanged ? text : "";
  noteDraft();
}
function closeIfUnchanged(side) {
  if (fields().edit_side.value !== side) close(side);
}
function close(side) {
  paneOf(side).querySelector("[data-editor]")?.remove();
  paneOf(side).classList.remove("is-edited");
}
export function removeEdit(side) {
  write(side, originalOf(side));
  close(side);
  focusStage();
}

// A form that was filled from a draft or from an earlier label shows its edit.
document.addEventListener("label:filled", (event) => {
  const { edit_side: sideField, edit_text: textField } = event.target.elements;
  for (const side of Object.keys(NAMES)) if (paneOf(side) && sideField.value !== side) close(side);
  if (sideField.value) showEditor(sideField.value, textField.value);
});
