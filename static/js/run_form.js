// The form of further runs: Start waits while every run that is asked for is there already.
"use strict";

(() => {
  const start = document.getElementById("start-runs");
  if (!start) return;
  const follow = () => {
    start.disabled = document.querySelector("#run-preview[data-nothing-new]") !== null;
  };
  document.addEventListener("htmx:afterSettle", follow);
  follow();
})();
