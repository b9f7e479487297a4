// Beside the pair: guidelines, the list of keys, hints for the first minute.
import { find, focusStage, postQuietly, root } from "./dom.js";
import { keep, kept } from "./store.js";

const panel = find("[data-guidelines-panel]");
const isWide = window.matchMedia("(min-width: 64rem)").matches;

export function toggleGuidelines() {
  panel.open = !panel.open;
  if (panel.open && !isWide) panel.querySelector("[data-guidelines-close]").focus();
}
export function showHelp() {
  document.getElementById("keys").showModal();
}
function readGuidelines() {
  if (!panel.dataset.unread) return;
  delete panel.dataset.unread;
  postQuietly(panel.dataset.seenUrl, {});
}
function onToggle() {
  keep("guidelines", "open", panel.open);
  if (panel.open) readGuidelines();
}

export function startPanels() {
  if (panel) {
    panel.addEventListener("toggle", onToggle);
    panel.querySelector("[data-guidelines-close]").addEventListener("click", () => {
      panel.open = false;
      focusStage();
    });
    panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      panel.open = false;
      focusStage();
    });
    const wanted = panel.dataset.unread || kept("guidelines", "open");
    if (isWide && wanted) panel.open = true;
  }
  find("[data-help]")?.addEventListener("click", showHelp);
  const hints = find("[data-hints]");
  hints?.querySelector("button").addEventListener("click", () => {
    hints.remove();
    postQuietly(hints.dataset.hints, {});
    focusStage();
  });
  document.querySelectorAll("#label .js-button").forEach((button) => (button.hidden = false));
  root.classList.add("has-keys");
}
