// Shared behaviour of every page: theme choice, menus, and telling the person when a request did not arrive.
"use strict";

function applyTheme(choice) {
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  localStorage.setItem("theme", choice);
  document.dispatchEvent(new CustomEvent("studio:theme"));
}
async function saveTheme(choice, url) {
  const token = JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"];
  const response = await fetch(url, { method: "POST", headers: { "X-CSRFToken": token }, body: new URLSearchParams({ theme: choice }) }).catch(() => null);
  if (!response?.ok) showToast("The theme holds for this page only: it could not be saved.", "error");
}

function showToast(text, kind = "info") {
  const toast = document.createElement("p");
  toast.className = `toast toast-${kind}`;
  toast.textContent = text;
  document.getElementById("toasts").append(toast);
  setTimeout(() => toast.remove(), kind === "error" ? 8000 : 4000);
}
window.showToast = showToast;

document.querySelectorAll("[data-theme-choice]").forEach((input) => {
  input.checked = input.value === document.documentElement.dataset.ownTheme;
  input.addEventListener("change", () => {
    applyTheme(input.value);
    saveTheme(input.value, input.closest("[data-theme-url]").dataset.themeUrl);
  });
});

document.addEventListener("click", (event) => {
  document.querySelectorAll("details[data-menu][open]").forEach((menu) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelectorAll("details[data-menu][open]").forEach((menu) => (menu.open = false));
});

// On a phone the tabs scroll: the one that is open is in view.
document.querySelectorAll(".study-nav, .subnav").forEach((nav) => {
  const tab = nav.querySelector("[aria-current]")?.getBoundingClientRect();
  const room = nav.getBoundingClientRect();
  if (tab) nav.scrollLeft += tab.left + tab.width / 2 - room.left - room.width / 2;
});

// Polling fails quietly; a request that a person made is worth a sentence. A page that answers it itself
// (the labelling screen does) marks the element with data-own-errors.
function isAnswered(event) {
  const element = event.detail.elt;
  return element.closest("[data-own-errors]") || (element.getAttribute("hx-trigger") || "").includes("every");
}
document.addEventListener("htmx:sendError", (event) => {
  if (!isAnswered(event)) showToast("The server cannot be reached. Nothing was changed; try again.", "error");
});
document.addEventListener("htmx:responseError", (event) => {
  if (isAnswered(event)) return;
  const status = event.detail.xhr.status;
  const text = event.detail.xhr.getResponseHeader("X-Error") || `The server answered ${status}. Nothing was changed.`;
  showToast(status === 403 ? "You are signed out or not allowed to do this. Reload the page." : text, "error");
});

// A part that is asked for again and again stays as it is while it says the same, and keeps what was opened in it.
const lastAnswers = new WeakMap();
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr, requestConfig } = event.detail;
  if (!(requestConfig.elt.getAttribute("hx-trigger") || "").includes("every") || !target) return;
  if (lastAnswers.get(target) === xhr.responseText) event.detail.shouldSwap = false;
  lastAnswers.set(target, xhr.responseText);
  const opened = [...target.querySelectorAll("details[id][open]")].map((details) => details.id);
  target.addEventListener("htmx:afterSwap", () => {
    opened.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
  }, { once: true });
});

// Without a session the server answers with its login page, which must never land inside another one.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (!new URL(event.detail.xhr.responseURL).pathname.endsWith("/login/")) return;
  event.detail.shouldSwap = false;
  if (!isAnswered(event)) location.reload();
});

// A button that takes a moment says so: data-busy is its text while its form is on its way.
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button || !button.dataset.busy) return;
  setTimeout(() => {
    button.disabled = true;
    button.setAttribute("aria-busy", "true");
    button.textContent = button.dataset.busy;
  });
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted) document.querySelectorAll("button[aria-busy]").forEach(() => location.reload());
});

// Times are written year first, in the zone of the device; the title has the zone.
function localTime(element) {
  const at = new Date(element.dateTime);
  if (Number.isNaN(at.getTime())) return;
  const two = (number) => String(number).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  element.textContent = `${day} ${two(at.getHours())}:${two(at.getMinutes())}`;
  element.title = at.toISOString();
}
function showLocalTimes() {
  document.querySelectorAll("time[data-local]").forEach(localTime);
}
showLocalTimes();
// At the swap: once htmx has settled, the server's way of writing would have been seen.
document.addEventListener("htmx:afterSwap", showLocalTimes);
document.addEventListener("htmx:oobAfterSwap", showLocalTimes);
