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
  });

  // The log is fetched while it is open. It follows its end unless someone has scrolled up.
  function refreshLogs() {
    document.querySelectorAll("details[open] [data-log]").forEach((holder) => htmx.trigger(holder, "wanted"));
  }
  document.addEventListener("toggle", refreshLogs, true);
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target } = event.detail;
    if (!target.hasAttribute("data-log")) return;
    const log = target.querySelector("[data-follow]");
    const top = log ? log.scrollTop : 0;
    const follows = !log || log.scrollHeight - log.scrollTop - log.clientHeight < 8;
    target.addEventListener("htmx:afterSwap", () => {
      const arrived = target.querySelector("[data-follow]");
      arrived.scrollTop = follows ? arrived.scrollHeight : top;
    }, { once: true });
  });

  function isPoll(event) {
    return event.detail.elt.id === "live-poll";
  }
  ["htmx:sendError", "htmx:timeout", "htmx:responseError"].forEach((name) => {
    document.addEventListener(name, (event) => {
      if (isPoll(event) && offline) offline.hidden = false;
    });
  });
  document.addEventListener("htmx:afterOnLoad", (event) => {
    if (!isPoll(event)) return;
    if (offline) offline.hidden = true;
    refreshLogs();
  });

  // Polling ends when nothing moves; whoever comes back to the page sees at once what others have done.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && poller()) htmx.trigger(poller(), "wake");
  });
})();
