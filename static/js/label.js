// The labelling screen: keys, the pair fetched ahead, and what is said of each label. Without this file plain forms work.
"use strict";

(() => {
  const root = document.getElementById("label");
  const find = (selector) => root.querySelector(selector);
  const stage = () => document.getElementById("stage");
  const CHOICE_KEYS = { 1: "left", 2: "right", 0: "tie", b: "both_bad" };

  let ahead = null; // the next pair, held on the server and ready to be shown
  let waiting = false; // the person has acted and nothing else can be shown before the answer
  let heldJob = null; // what the server has not taken yet
  let clockOf = null; // the pair that the clock runs for
  let shownAt = 0;
  let hiddenMs = 0;
  let hiddenSince = null;

  const shownPair = () => stage().querySelector("[data-pair]");
  const pairId = (pair) => (pair ? pair.dataset.pair : "");
  const verdictForm = () => stage().querySelector("[data-verdict-form]");

  /* Time on the pair, without the time that the tab was hidden. */
  function startClock() {
    clockOf = shownPair();
    shownAt = performance.now();
    hiddenMs = 0;
    hiddenSince = document.hidden ? shownAt : null;
  }
  function elapsedMs() {
    const now = performance.now();
    return Math.round(now - shownAt - hiddenMs - (hiddenSince === null ? 0 : now - hiddenSince));
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hiddenSince = performance.now();
    else if (hiddenSince !== null) {
      hiddenMs += performance.now() - hiddenSince;
      hiddenSince = null;
    }
  });

  /* Saying what happened. */
  function say(text) {
    const saved = find("[data-saved]");
    saved.textContent = text ? `${text} ·` : "";
    saved.classList.remove("is-fresh");
    void saved.offsetWidth;
    saved.classList.add("is-fresh");
    find("[data-announce]").textContent = text;
  }
  function tellProblem(text) {
    const line = find("[data-problem-line]");
    line.textContent = text;
    line.hidden = !text;
  }
  function tellUnsaved(why) {
    const box = find("[data-unsaved]");
    box.hidden = !why;
    if (!why) return;
    const causes = {
      "signed-out": "you are signed out, or no longer in this study",
      server: "the server had an error",
      unreachable: "the server cannot be reached",
    };
    find("[data-unsaved-text]").textContent = `Not saved yet: ${causes[why]}. What you did is kept here and sent again by itself.`;
    find("[data-unsaved-login]").hidden = why !== "signed-out";
  }

  /* Showing. */
  function show(element, { focus = true } = {}) {
    waiting = false;
    // Two answers under way at once may both bring this pair; it must not come up a second time.
    if (ahead && pairId(ahead) === pairId(element)) ahead = null;
    stage().replaceChildren(element);
    element.classList.remove("is-sending");
    if (window.htmx) window.htmx.process(stage());
    window.scrollTo(0, 0);
    if (focus) stage().focus({ preventScroll: true });
    startClock();
  }
  function hold() {
    waiting = true;
    const pair = shownPair();
    if (pair) pair.classList.add("is-sending");
  }
  function parse(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    const content = template.content.querySelector("#stage > *");
    const progress = template.content.querySelector("#progress");
    const problem = template.content.querySelector("[data-problem]");
    if (progress) document.getElementById("progress").replaceWith(progress);
    return { content, problem: problem ? problem.textContent : "" };
  }
  function keepAhead(content) {
    const fits = content && content.matches("[data-pair]") && pairId(content) !== pairId(shownPair());
    ahead = fits ? content : null;
  }
  async function fetchAhead() {
    const current = shownPair();
    if (!current || ahead) return;
    try {
      const response = await fetch(`${root.dataset.next}?after=${pairId(current)}`, { headers: { "HX-Request": "true" } });
      if (response.status !== 200 || response.redirected) return;
      const { content } = parse(await response.text());
      if (shownPair() === current && !ahead && !waiting) keepAhead(content);
    } catch {
      // The answer to the next label brings a pair as well.
    }
  }

  /* Acting. */
  function goOn() {
    if (!ahead) return hold();
    const next = ahead;
    ahead = null;
    return show(next);
  }
  function bodyOf(form, submitter, pair) {
    const data = new FormData(form);
    if (!submitter.matches("[data-skip]")) data.set("duration_ms", pair.dataset.durationMs);
    return () => {
      data.set("ahead", shownPair() === pair ? "" : pairId(shownPair()));
      return new URLSearchParams(data);
    };
  }
  function submitVerdict(form, submitter) {
    if (waiting && heldJob?.pair !== shownPair()) return;
    const pair = form.closest("[data-pair]");
    const isSkip = submitter.matches("[data-skip]");
    if (!isSkip && !form.elements.verdict.value) return hintToChoose(form);
    pair.dataset.durationMs ||= elapsedMs();
    const job = { kind: isSkip ? "skip" : "label", pair, url: isSkip ? submitter.formAction : form.action };
    job.body = bodyOf(form, submitter, pair);
    tellProblem("");
    if (heldJob?.pair === pair) {
      outbox.amend(heldJob, job);
      return outbox.retry();
    }
    say(isSkip ? "Skipping…" : "Saving…");
    goOn();
    return outbox.add(job);
  }
  // While a label waits to be sent, what is highlighted is what will be sent.
  function amendHeld() {
    const form = verdictForm();
    if (!form || heldJob?.pair !== shownPair() || heldJob.kind !== "label") return;
    outbox.amend(heldJob, { body: bodyOf(form, form.querySelector("[data-submit]"), heldJob.pair) });
  }
  function undo(form) {
    if (waiting) return;
    if (heldJob) return say("Not saved yet");
    tellProblem("");
    hold();
    outbox.add({ kind: "undo", pair: null, url: form.action, body: () => new URLSearchParams(new FormData(form)) });
  }
  function hintToChoose(form) {
    const hint = form.querySelector("[data-hint]");
    hint.textContent = "Choose first";
    setTimeout(() => (hint.textContent = ""), 2500);
  }

  /* What became of it. */
  function onHeld(job, why) {
    tellUnsaved(why);
    say("");
    if (heldJob === job) return;
    heldJob = job;
    if (job.pair && shownPair() !== job.pair) {
      if (shownPair()) ahead = shownPair();
      show(job.pair, { focus: false });
    }
    waiting = job.kind === "undo";
    job.pair?.classList.remove("is-sending");
  }
  function onSettled(job, outcome) {
    const wasHeld = heldJob === job;
    heldJob = null;
    tellUnsaved(null);
    if (outcome.status === 404) return location.reload();
    const { content, problem } = parse(outcome.html);
    tellProblem(problem);
    if (job.kind === "undo") return settleUndo(content, problem);
    say(problem ? "" : job.kind === "skip" ? "Skipped" : "Saved");
    if (shownPair() !== job.pair) return keepAhead(content);
    if (wasHeld && ahead) {
      goOn();
      return keepAhead(content);
    }
    if (content) show(content);
    return fetchAhead();
  }
  function settleUndo(content, problem) {
    const current = shownPair();
    waiting = false;
    current?.classList.remove("is-sending");
    say(problem ? "" : "Taken back");
    if (problem) return;
    show(content);
    ahead = current;
  }
  const outbox = new window.Outbox({ onHeld, onSettled });

  /* Keys, buttons, panels. */
  const isTyping = (element) => element.closest("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]");
  const isPressable = (element) => element.closest("a, button, summary, input");
  const panel = find("[data-guidelines-panel]");

  function choose(value) {
    const input = verdictForm()?.querySelector(`[name=verdict][value=${value}]`);
    if (!input || (waiting && !heldJob)) return;
    input.checked = true;
    amendHeld();
    stage().focus({ preventScroll: true });
  }
  function pressed(event) {
    const form = verdictForm();
    if (event.key in CHOICE_KEYS) choose(CHOICE_KEYS[event.key]);
    else if (event.key === "z") undo(find("[data-undo-form]"));
    else if (event.key === "g") panel.open = !panel.open;
    else if (event.key === "?") document.getElementById("keys").showModal();
    else if ((event.key === "Enter" || event.key === " ") && form && !isPressable(event.target)) {
      submitVerdict(form, form.querySelector(event.key === " " ? "[data-skip]" : "[data-submit]"));
    } else return;
    event.preventDefault();
  }
  // In a group of radio buttons arrows would choose; here they move the focus, and Space chooses.
  function moveFocus(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const inputs = [...event.target.form.elements.verdict];
    inputs[(inputs.indexOf(event.target) + step + inputs.length) % inputs.length].focus();
    event.preventDefault();
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (document.querySelector("dialog[open]") || isTyping(event.target)) return;
    if (event.target.matches("[type=radio][name=verdict]")) moveFocus(event);
    pressed(event);
  });
  document.addEventListener("submit", (event) => {
    const undoForm = event.target.matches("[data-undo-form]");
    if (!undoForm && !event.target.matches("[data-verdict-form]")) return;
    event.preventDefault();
    if (undoForm) undo(event.target);
    else submitVerdict(event.target, event.submitter || event.target.querySelector("[data-submit]"));
  });
  // A button pressed with the mouse gives the focus back, so that Space and Enter keep their meaning.
  document.addEventListener("click", (event) => {
    if (event.detail > 0 && root.contains(event.target) && isPressable(event.target)) stage().focus({ preventScroll: true });
  });
  document.addEventListener("change", (event) => {
    if (!event.target.matches("[name=verdict]")) return;
    amendHeld();
    if (!event.target.matches(":focus-visible")) stage().focus({ preventScroll: true });
  });

  find("[data-unsaved-retry]").addEventListener("click", () => outbox.retry());
  find("[data-help]").addEventListener("click", () => document.getElementById("keys").showModal());
  find("[data-raw]").addEventListener("click", (event) => {
    const raw = root.classList.toggle("show-raw");
    event.currentTarget.setAttribute("aria-pressed", String(raw));
  });
  panel.addEventListener("toggle", () => localStorage.setItem("guidelines-seen", panel.open ? "" : root.dataset.guidelines));
  if (window.matchMedia("(min-width: 64rem)").matches) panel.open = localStorage.getItem("guidelines-seen") !== root.dataset.guidelines;

  /* The empty state polls; it is replaced only when it says something else, so that it is read out once. */
  document.addEventListener("htmx:beforeSwap", (event) => {
    const html = event.detail.xhr.responseText;
    const fresh = new DOMParser().parseFromString(html, "text/html").querySelector("#stage");
    if (!stage().contains(event.detail.elt)) return;
    if (!fresh) location.reload();
    event.detail.shouldSwap = Boolean(fresh) && fresh.textContent !== stage().textContent;
  });
  document.addEventListener("htmx:afterSettle", () => {
    if (!shownPair() || clockOf === shownPair()) return;
    startClock();
    fetchAhead();
  });

  document.querySelectorAll("[data-raw], [data-help]").forEach((button) => (button.hidden = false));
  root.classList.add("has-keys");
  if (shownPair()) {
    startClock();
    fetchAhead();
  }
})();
