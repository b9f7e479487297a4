// From a pressed key to what it means for this person. Bare keys do nothing while somebody types, in a dialog, or with
// Ctrl, Alt or ⌘; only Ctrl or ⌘ with Enter submits from a text.
import { isPressable, isTyping } from "./dom.js";

const keyMap = JSON.parse(document.getElementById("key-map").textContent);
const actionOf = new Map(Object.entries(keyMap).map(([action, key]) => [key, action]));
const nameOf = (key) => (key === " " ? "Space" : key);

export function actionFor(key) {
  const name = nameOf(key);
  return actionOf.get(name) ?? (name.length === 1 ? actionOf.get(name.toLowerCase()) : undefined);
}

// In a group of radio buttons arrows would choose; here they move the focus, and Space chooses.
function moveFocus(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return false;
  const inputs = [...event.target.form.elements[event.target.name]];
  inputs[(inputs.indexOf(event.target) + step + inputs.length) % inputs.length].focus();
  return true;
}

function handle(event, handlers) {
  if (event.isComposing || document.querySelector("dialog[open]")) return false;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat) return handlers.submitFromText(event);
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return false;
  if (event.target.matches("[type=radio]") && moveFocus(event)) return true;
  if (handlers.scroll(event)) return true;
  if (event.repeat) return false;
  if (handlers.first(event, actionFor(event.key))) return true;
  if ((event.key === "Enter" || event.key === " ") && isPressable(event.target)) return false;
  const act = handlers.actions[actionFor(event.key)];
  if (!act) return false;
  act();
  return true;
}

export function listen(handlers) {
  document.addEventListener("keydown", (event) => {
    if (handle(event, handlers)) event.preventDefault();
  });
}
