// Telling the lead what is wrong with a pair, in a dialog; digits choose a reason.
import { chosenVerdict, find, focusStage, shownPair, verdictForm } from "./dom.js";
import { flagPair } from "./flow.js";

const dialog = document.getElementById("flag");
const form = dialog?.querySelector("form");

export function openFlag() {
  if (!dialog || !verdictForm()) return;
  form.reset();
  find("[data-flag-verdict]").hidden = !chosenVerdict();
  find("[data-flag-problem]").textContent = "";
  dialog.showModal();
  form.elements.reason[0].focus();
}
function send() {
  if (!form.elements.reason.value) {
    find("[data-flag-problem]").textContent = "Choose what is wrong first.";
    return;
  }
  const data = new FormData(form);
  dialog.close();
  focusStage();
  flagPair(shownPair().dataset.flagUrl, data);
}

if (dialog) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (event.submitter?.matches("[data-flag-cancel]")) dialog.close();
    else send();
  });
  dialog.addEventListener("close", focusStage);
  dialog.addEventListener("keydown", (event) => {
    const isNote = event.target.matches("textarea");
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey || event.target.matches("[type=radio]"))) {
      event.preventDefault();
      send();
    }
    const reason = !isNote && form.elements.reason[Number(event.key) - 1];
    if (!reason || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    reason.checked = true;
    reason.focus();
  });
}
