// Polled parts of a page: swap only what changed, and keep focus, open details and scroll where they are.
"use strict";

(() => {
  const seen = new Map();
  const offline = document.getElementById("live-offline");
  const poller = () => document.getElementById("live-poll");

  function remember(element) {
    const copy = element.cloneNode(true);
    copy.removeAttribute("hx-swap-oob");
    copy.querySelectorAll("[name=csrfmiddlewaretoken]").forEach((input) => input.remove()); // masked anew each time
    return copy.outerHTML;
  }
  document.querySelectorAll("[data-live]").forEach((element) => seen.set(element.id, remember(element)));

  function carryOver(target, arriving) {
    const opened = [target, ...target.querySelectorAll("details[id]")].filter((element) => element.open);
    opened.forEach(({ id }) => {
      const match = arriving.id === id ? arriving : arriving.querySelector(`#${CSS.escape(id)}`);
      if (match) match.open = true;
    });
  }

  function logPlace(target) {
    const log = target.querySelector("[data-follow]");
    if (!log) return null;
    return { id: log.id, top: log.scrollTop, atEnd: log.scrollHeight - log.scrollTop - log.clientHeight < 8 };
  }

  let places = [];
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const arriving = event.detail.fragment.firstElementChild;
    if (!arriving || !arriving.hasAttribute("data-live")) return;
    const text = remember(arriving);
    if (seen.get(arriving.id) === text) {
      event.detail.shouldSwap = false;
      return;
    }
    seen.set(arriving.id, text);
    carryOver(event.detail.target, arriving);
    const place = logPlace(event.detail.target);
    if (place) places.push(place);
  });
  document.addEventListener("htmx:oobAfterSwap", () => {
    places.forEach(({ id, top, atEnd }) => {
      const log = document.getElementById(id);
      if (log) log.scrollTop = atEnd ? log.scrollHeight : top;
    });
    places = [];
  });

  // Someone who opens the log wants its end.
  document.addEventListener("toggle", (event) => {
    const log = event.target.open && event.target.querySelector("[data-follow]");
    if (log) log.scrollTop = log.scrollHeight;
  }, true);

  function isPoll(event) {
    return event.detail.elt.id === "live-poll";
  }
  ["htmx:sendError", "htmx:timeout", "htmx:responseError"].forEach((name) => {
    document.addEventListener(name, (event) => {
      if (isPoll(event) && offline) offline.hidden = false;
    });
  });
  document.addEventListener("htmx:afterOnLoad", (event) => {
    if (isPoll(event) && offline) offline.hidden = true;
  });

  // Polling ends when nothing moves; whoever comes back to the page sees at once what others have done.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && poller()) htmx.trigger(poller(), "wake");
  });
})();
