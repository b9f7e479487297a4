// Keys of the review of one pair: a figure or letter chooses, Enter decides, n goes on. Bare keys do nothing while typing.
"use strict";

const isTyping = (target) => target.closest("textarea, select, input:not([type=radio]), [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  const form = document.querySelector("[data-decide]");
  if (event.key === "n") return void document.querySelector("[data-next]")?.click();
  if (!form) return;
  const choice = form.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (choice) {
    choice.checked = true;
    choice.focus();
    event.preventDefault();
  } else if (event.key === "Enter" && !event.target.closest("a, button, summary")) {
    event.preventDefault();
    form.requestSubmit();
  }
});
