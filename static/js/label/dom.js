// What the parts of the labelling screen share: where things are on the page.
export const root = document.getElementById("label");
export const find = (selector) => root.querySelector(selector);
export const stage = () => document.getElementById("stage");
export const shownPair = () => stage().querySelector("[data-pair]");
export const pairId = (pair) => (pair ? pair.dataset.pair : "");
export const verdictForm = () => stage().querySelector("[data-verdict-form]");
export const chosenVerdict = () => verdictForm()?.elements.verdict?.value || "";
export const focusStage = () => stage().focus({ preventScroll: true });

const TEXT_FIELDS = "input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]";
export const isTyping = (element) => element.closest(TEXT_FIELDS);
export const isPressable = (element) => element.closest("a, button, summary, input");

export function csrfToken() {
  const cookie = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/);
  return cookie ? cookie[1] : document.querySelector("[name=csrfmiddlewaretoken]").value;
}

// A request that nobody waits for; `keepalive` lets it finish while the page goes away.
export function postQuietly(url, fields, { keepalive = false } = {}) {
  const headers = { "HX-Request": "true", "X-CSRFToken": csrfToken() };
  return fetch(url, { method: "POST", headers, body: new URLSearchParams(fields), keepalive }).catch(() => null);
}
