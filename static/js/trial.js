// The prompt box: Ctrl or ⌘ with Enter sends; no more than four policies; the end of the writing is read out.
"use strict";

(() => {
  const form = document.getElementById("trial-form");
  const MOST_POLICIES = 4;

  form.elements.text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });

  function limitPolicies() {
    const boxes = [...form.querySelectorAll("input[name=policies]")];
    const full = boxes.filter((box) => box.checked).length >= MOST_POLICIES;
    boxes.forEach((box) => (box.disabled = full && !box.checked));
  }
  form.addEventListener("change", limitPolicies);
  limitPolicies();

  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "trial-answers" && !event.detail.target.querySelector("[aria-busy]")) {
      window.showToast("All answers have ended.");
    }
  });
})();
