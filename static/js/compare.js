// The comparison's keys, its link and the columns: everything else is links and a form, and works without this file.
"use strict";

(() => {
  const keys = document.getElementById("compare-keys");
  const controls = document.getElementById("compare-controls");
  const rows = [...document.querySelectorAll(".compare-row")];
  const MOST_COLUMNS = 4;

  document.querySelectorAll("[data-copy-link], [data-open-keys]").forEach((button) => (button.hidden = false));

  async function copyLink() {
    try {
      await navigator.clipboard.writeText(location.href);
      window.showToast("The link is copied: it shows this very page.");
    } catch {
      window.prompt("Copy this link", location.href);
    }
  }

  function followLink(selector) {
    const link = document.querySelector(selector);
    if (link) link.click();
  }

  function currentRow() {
    return rows.findIndex((row) => `#${row.id}` === location.hash);
  }

  function showRow(place) {
    const row = rows[place];
    if (!row) return;
    history.replaceState(null, "", `#${row.id}`);
    mark(row);
    row.focus({ preventScroll: true });
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    row.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
  }

  function mark(chosen) {
    rows.forEach((row) => row.classList.toggle("is-current", row === chosen));
  }

  function step(by) {
    if (!rows.length) {
      followLink(by > 0 ? "[rel=next]" : "[rel=prev]");
      return;
    }
    const place = currentRow();
    showRow(place < 0 ? (by > 0 ? 0 : rows.length - 1) : place + by);
  }

  function toggleDiff() {
    const select = controls && controls.elements.diff;
    if (!select) {
      followLink("[data-diff-toggle]");
      return;
    }
    const address = new URL(location.href);
    address.searchParams.set("diff", select.value === "0" ? "1" : "0");
    location.assign(address);
  }

  function openRow() {
    const row = rows[currentRow()];
    if (row && document.activeElement === row) row.querySelector(".compare-open").click();
  }

  const actions = {
    j: () => step(1),
    k: () => step(-1),
    d: toggleDiff,
    "/": () => controls && controls.elements.text.focus(),
    "?": () => keys && keys.showModal(),
    Enter: openRow,
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=checkbox]), select, textarea, [contenteditable]");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || (keys && keys.open)) return;
    const action = actions[event.key];
    if (!action) return;
    if (event.key !== "Enter") event.preventDefault();
    action();
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-copy-link]")) copyLink();
    if (event.target.closest("[data-open-keys]") && keys) keys.showModal();
  });

  // Two to four columns: a fifth cannot be ticked. Empty fields stay out of the address.
  function limitColumns() {
    const boxes = [...controls.querySelectorAll("input[name=policy]")];
    const full = boxes.filter((box) => box.checked).length >= MOST_COLUMNS;
    boxes.forEach((box) => (box.disabled = full && !box.checked));
  }
  if (controls) {
    controls.addEventListener("change", limitColumns);
    limitColumns();
    controls.addEventListener("submit", () => {
      controls.querySelectorAll("input, select").forEach((field) => {
        if (field.value === "") field.disabled = true;
      });
    });
    window.addEventListener("pageshow", () => {
      controls.querySelectorAll("input:disabled:not([type=checkbox]), select:disabled").forEach((field) => (field.disabled = false));
    });
  }
  mark(rows[currentRow()]);
})();
