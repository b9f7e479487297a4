// What has been begun on a pair: kept in this browser with every stroke, and on the server a moment later when it is text.
// On a label that is looked at again, begun means: says something else than the label.
import { pairId, postQuietly, shownPair, verdictForm } from "./dom.js";
import { forget, keep, kept, tidy } from "./store.js";

const KIND = "draft";
const FIELDS = ["verdict", "strength", "rationale", "edit_side", "edit_text"];
const SERVER_AFTER_MS = 2000;
let timer = null;
let due = null; // what the server has not been told of yet
let onItsWay = null; // a request of ours that the server has not answered
const bases = new WeakMap(); // what a form says before anything has been begun

export const contentOf = (form) => contentFrom((field) => form.elements[field]?.value);
function contentFrom(said) {
  const content = {};
  for (const field of FIELDS) {
    const value = said(field);
    if (value) content[field] = field === "strength" ? Number(value) : value;
  }
  if (!content.edit_text) delete content.edit_side;
  return content;
}
const hasText = (content) => Boolean(content.rationale || content.edit_text);
// The server keeps texts without the space around them.
const plain = (form) =>
  JSON.stringify(contentOf(form), (_, value) => (typeof value === "string" ? value.trim() : value));
const isBegun = (form) => plain(form) !== (bases.get(form) || "{}");

function tellServer(options) {
  clearTimeout(timer);
  if (!due) return;
  const { form, content } = due;
  due = null;
  form.elements.had_draft.value = "1";
  const request = postQuietly(form.dataset.draftUrl, { content: JSON.stringify(content) }, options);
  onItsWay = request;
  request.then(() => onItsWay === request && (onItsWay = null));
}

export function noteDraft() {
  const form = verdictForm();
  if (!form?.dataset.draftUrl) return;
  const content = isBegun(form) ? contentOf(form) : {};
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

// A label that another one stands against, as something begun on that: where one looks at it, both can be compared.
export function keepRefused(id, said) {
  if (!kept(KIND, id)) keep(KIND, id, { content: contentFrom((field) => said.get(field)), at: Date.now() });
}

// A form is sent with what it says now; what is on its way already must come before it.
export function endDraft() {
  clearTimeout(timer);
  due = null;
  return onItsWay;
}

export function fill(form, content) {
  for (const field of FIELDS) {
    const input = form.elements[field];
    const value = String(content[field] ?? "");
    if (input instanceof RadioNodeList) input.forEach((each) => (each.checked = each.value === value));
    else if (input) input.value = value;
  }
  form.dispatchEvent(new CustomEvent("label:filled", { bubbles: true }));
}

// The browser's own copy goes before the server's: it is never older in this browser.
export function restoreDraft(pair) {
  const form = pair.querySelector("[data-verdict-form]");
  if (!form?.dataset.draftUrl) return;
  if (pair.dataset.said) {
    fill(form, JSON.parse(pair.dataset.said));
    bases.set(form, plain(form));
  }
  const fromServer = pair.dataset.draft ? JSON.parse(pair.dataset.draft) : null;
  delete pair.dataset.draft; // read once: when the pair is shown again, its form says what was begun
  if (fromServer) form.elements.had_draft.value = "1";
  const content = kept(KIND, pairId(pair))?.content || fromServer;
  if (!content || !Object.keys(content).length) return;
  fill(form, content);
  if (!isBegun(form)) return forget(KIND, pairId(pair));
  form.querySelector("[data-draft-note]").hidden = false;
}

export function discardDraft() {
  const form = verdictForm();
  fill(form, JSON.parse(shownPair().dataset.said || "{}"));
  form.querySelector("[data-draft-note]").hidden = true;
  noteDraft();
}

window.addEventListener("pagehide", () => tellServer({ keepalive: true }));
document.addEventListener("visibilitychange", () => document.hidden && tellServer({ keepalive: true }));
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-draft-discard]")) discardDraft();
});
tidy();
