// What has been begun on a pair: kept in this browser with every stroke, and on the server a moment later when it is text.
import { pairId, postQuietly, shownPair, verdictForm } from "./dom.js";
import { forget, keep, kept, tidy } from "./store.js";

const KIND = "draft";
const FIELDS = ["verdict", "strength", "rationale", "edit_side", "edit_text"];
const SERVER_AFTER_MS = 2000;
let timer = null;
let due = null; // what the server has not been told of yet

export function contentOf(form) {
  const content = {};
  for (const field of FIELDS) {
    const value = form.elements[field]?.value;
    if (value) content[field] = field === "strength" ? Number(value) : value;
  }
  if (!content.edit_text) delete content.edit_side;
  return content;
}
const hasText = (content) => Boolean(content.rationale || content.edit_text);

function tellServer(options) {
  clearTimeout(timer);
  if (!due) return;
  const { form, content } = due;
  due = null;
  form.elements.had_draft.value = "1";
  postQuietly(form.dataset.draftUrl, { content: JSON.stringify(content) }, options);
}

export function noteDraft() {
  const form = verdictForm();
  if (!form?.dataset.draftUrl) return;
  const content = contentOf(form);
  const id = pairId(shownPair());
  if (Object.keys(content).length) keep(KIND, id, { content, at: Date.now() });
  else forget(KIND, id);
  if (!hasText(content) && !form.elements.had_draft.value) return;
  due = { form, content };
  clearTimeout(timer);
  timer = setTimeout(tellServer, SERVER_AFTER_MS);
}

// The label is on its way; from now on the outbox keeps what it says.
export function dropDraft(pair) {
  forget(KIND, pairId(pair));
  if (due && due.form === pair.querySelector("[data-verdict-form]")) due = null;
}

export function fill(form, content) {
  for (const field of FIELDS) {
    const input = form.elements[field];
    if (input && content[field] !== undefined) input.value = content[field];
  }
  form.dispatchEvent(new CustomEvent("label:filled", { bubbles: true }));
}

// The browser's own copy goes before the server's: it is never older in this browser.
export function restoreDraft(pair) {
  const form = pair.querySelector("[data-verdict-form]");
  if (!form?.dataset.draftUrl) return;
  const fromServer = pair.dataset.draft ? JSON.parse(pair.dataset.draft) : null;
  if (fromServer) form.elements.had_draft.value = "1";
  const content = kept(KIND, pairId(pair))?.content || fromServer;
  if (!content || !Object.keys(content).length) return;
  fill(form, content);
  const note = form.querySelector("[data-draft-note]");
  if (note) note.hidden = false;
}

export function discardDraft() {
  const form = verdictForm();
  for (const input of form.querySelectorAll("[name=verdict], [name=strength]")) input.checked = false;
  for (const field of ["rationale", "edit_side", "edit_text"]) form.elements[field].value = "";
  form.querySelector("[data-draft-note]").hidden = true;
  form.dispatchEvent(new CustomEvent("label:filled", { bubbles: true }));
  noteDraft();
}

window.addEventListener("pagehide", () => tellServer({ keepalive: true }));
document.addEventListener("visibilitychange", () => document.hidden && tellServer({ keepalive: true }));
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-draft-discard]")) discardDraft();
});
tidy();
