// One pair after the other: the next one is held ahead, an act leaves by the outbox, and its answer brings another pair.
import { focusStage, pairId, root, shownPair, stage, verdictForm } from "./dom.js";
import { elapsedMs, startClock } from "./clock.js";
import { dropDraft, fill, keepRefused, restoreDraft } from "./drafts.js";
import { Outbox } from "./outbox.js";
import { showDiff, watchPanes, markEdges } from "./panes.js";
import { enrich } from "./rich.js";
import { hint, lastTrace, leaveTrail, retraceTrail, say, tellProblem, tellUnsaved } from "./say.js";

let ahead = null; // the next pair, held on the server and ready to be shown
let waiting = false; // the person has acted and nothing else can be shown before the answer
let heldJob = null; // what the server has not taken yet
let clockOf = null; // the pair that the clock runs for
const undoing = () => outbox.has("undo"); // with it a pair is to come back
const DONE = { label: "Saved", skip: "Skipped", flag: "Flagged" };
const DOING = { label: "Saving…", skip: "Skipping…", flag: "Flagging…" };

/* Showing. */
function begin() {
  clockOf = shownPair();
  startClock();
  if (!clockOf) return;
  restoreDraft(clockOf);
  // Colours, formulas and differences come after the pair has been painted.
  requestAnimationFrame(() => setTimeout(() => afterPaint(clockOf)));
}
function afterPaint(pair) {
  if (!pair || shownPair() !== pair) return;
  enrich(pair);
  showDiff();
  watchPanes();
  markEdges();
}
function show(element, { focus = true } = {}) {
  waiting = undoing();
  // Two answers under way at once may both bring this pair; it must not come up a second time.
  if (ahead && pairId(ahead) === pairId(element)) ahead = null;
  stage().replaceChildren(element);
  element.classList.toggle("is-sending", waiting);
  if (window.htmx) window.htmx.process(stage());
  window.scrollTo(0, 0);
  if (focus) focusStage();
  begin();
}
function holdStill() {
  waiting = true;
  shownPair()?.classList.add("is-sending");
}
function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  const content = template.content.querySelector("#stage > *");
  const progress = template.content.querySelector("#progress");
  const problem = template.content.querySelector("[data-problem]");
  if (progress) document.getElementById("progress").replaceWith(progress);
  return { content, problem: problem ? problem.textContent : "", label: problem?.dataset.label || "" };
}
function keepAhead(content) {
  const fits = content && content.matches("[data-pair]") && pairId(content) !== pairId(shownPair());
  ahead = fits ? content : null;
}
async function fetched(query) {
  const response = await fetch(`${root.dataset.next}${query}`, { headers: { "HX-Request": "true" } });
  if (![200, 286].includes(response.status) || response.redirected) return null;
  return parse(await response.text()).content;
}
async function fetchAhead() {
  const current = shownPair();
  if (!current || ahead) return;
  try {
    const content = await fetched(`?after=${pairId(current)}`);
    if (shownPair() === current && !ahead && !waiting) keepAhead(content);
  } catch {
    // The answer to the next label brings a pair as well.
  }
}
function goOn() {
  if (!ahead) return holdStill();
  const next = ahead;
  ahead = null;
  return show(next);
}
// After the feedback on a practice pair.
export async function continueAfterFeedback() {
  if (ahead) return goOn();
  try {
    const content = await fetched("");
    if (content) return show(content);
  } catch {
    // The page itself says what is wrong with the connection.
  }
  return location.reload();
}
export const feedback = () => stage().querySelector("[data-feedback]");

/* Acting. */
// The token of a form ages with the session; the outbox sends the present one.
function fieldsOf(data) {
  data.delete("csrfmiddlewaretoken");
  return data;
}
function bodyOf(data, pair) {
  return () => {
    data.set("ahead", shownPair() === pair ? "" : pairId(shownPair()));
    return new URLSearchParams(fieldsOf(data));
  };
}
function labelData(form, pair) {
  const data = new FormData(form);
  pair.dataset.durationMs ||= elapsedMs();
  data.set("duration_ms", pair.dataset.durationMs);
  return data;
}
const typedIn = (data) => [data.get("rationale"), data.get("edit_text")].filter(Boolean).join("\n\n");
const labelJob = (form, pair) => {
  const data = labelData(form, pair);
  const said = { body: bodyOf(data, pair), sign: data.get("verdict"), typed: typedIn(data) };
  return { kind: "label", pair, pairId: pairId(pair), url: form.action, ...said };
};
// While a pair is on its way and no other is here, keys would change what was sent already; what waits to be taken back
// is not changed either.
export const isWaiting = () => waiting && (!heldJob || undoing());
const mayAct = () => !waiting || (heldJob?.pair === shownPair() && !undoing());

function send(job) {
  tellProblem("");
  if (heldJob?.pair && heldJob.pair === job.pair) {
    outbox.amend(heldJob, job);
    return outbox.retry();
  }
  say(DOING[job.kind]);
  dropDraft(job.pair);
  if (job.pair.dataset.practice && job.kind === "label") holdStill();
  else goOn();
  return outbox.add(job);
}
export function submitVerdict() {
  const form = verdictForm();
  if (!form || !mayAct()) return;
  if (!form.elements.verdict.value) return hint("Choose first");
  return send(labelJob(form, shownPair()));
}
export function skip() {
  const form = verdictForm();
  if (!form || !mayAct()) return;
  const pair = shownPair();
  const url = form.querySelector("[data-skip]").formAction;
  const data = new FormData();
  data.set("client_id", form.elements.client_id.value);
  return send({ kind: "skip", pair, pairId: pairId(pair), url, body: bodyOf(data, pair), sign: "skip" });
}
// A pair that has a verdict already is labelled and flagged; otherwise the flag passes on it.
export function flagPair(url, data) {
  const form = verdictForm();
  if (!form || !mayAct()) return;
  const pair = shownPair();
  const isLabelled = Boolean(form.elements.verdict.value);
  data.set("client_id", form.elements.client_id.value);
  const job = { kind: "flag", pair, pairId: pairId(pair), url, body: bodyOf(data, pair), sign: "flag" };
  if (!isLabelled) return send(job);
  const label = labelJob(form, pair);
  send(label);
  return outbox.add({ ...job, sign: null });
}
// While a label waits to be sent, what is on the screen is what will be sent.
export function amendHeld() {
  const form = verdictForm();
  if (!form || undoing() || heldJob?.pair !== shownPair() || heldJob.kind !== "label") return;
  const { body, sign, typed } = labelJob(form, heldJob.pair);
  outbox.amend(heldJob, { body, sign, typed });
}
// Not crypto.randomUUID: browsers have that on secure origins only.
function freshId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
// Also of an act that the server has not answered yet: it goes after that. It says what it takes back, and by its id the
// server knows it again.
export function undo(form) {
  if (undoing()) return;
  if (heldJob) return say("Not saved yet");
  tellProblem("");
  const fields = { client_id: freshId(), pair: outbox.lastPairId || lastTrace() || "" };
  sendUndo({ id: `undo-${fields.client_id}`, pairId: fields.pair, url: form.action, fields });
}
function sendUndo({ fields, ...job }) {
  outbox.add({ ...job, kind: "undo", pair: null, body: () => new URLSearchParams(fields) });
  holdStill();
}

// What it was to take back has not come about.
function dropUndo(pair) {
  if (!undoing()) return;
  outbox.drop((job) => job.kind === "undo" && job.pairId === pair);
  waiting = undoing() || outbox.sends(shownPair());
  shownPair()?.classList.toggle("is-sending", waiting);
}

/* What became of it. */
function onHeld(job, why) {
  tellUnsaved(why, outbox.size);
  say("");
  if (heldJob === job) return;
  heldJob = job;
  waiting = undoing();
  // An undo stays behind what it takes back, and both are sent: until then nothing else can be said.
  if (waiting) return;
  if (job.pair && shownPair() !== job.pair) {
    if (shownPair()) ahead = shownPair();
    show(job.pair, { focus: false });
  }
  job.pair?.classList.remove("is-sending");
}
function onSettled(job, outcome) {
  const wasHeld = heldJob === job;
  heldJob = null;
  tellUnsaved(null);
  if (outcome.status === 404) {
    dropUndo(job.pairId);
    return location.reload();
  }
  const { content, problem, label } = parse(outcome.html);
  tellProblem(problem, { typed: job.typed, label });
  if (label) keepRefused(job.pairId, job.body());
  if (job.kind === "undo") return settleUndo(job, { content, problem, isGone: outcome.status === 410 });
  if (problem) dropUndo(job.pairId);
  say(problem ? "" : DONE[job.kind]);
  if (!problem && job.sign) leaveTrail(job.sign, job.pairId, job);
  if (job.pair === null || shownPair() !== job.pair) return keepAhead(content);
  if (content?.matches("[data-feedback]")) return show(content);
  if (wasHeld && ahead) {
    goOn();
    return keepAhead(content);
  }
  if (content) show(content);
  return fetchAhead();
}
// The answer brings the pair back; where it had been brought back before, it may be the one on the screen, or another.
// What had been taken back elsewhere is not what was done last: the next undo goes on before it.
function settleUndo(job, { content, problem, isGone }) {
  const current = shownPair();
  waiting = undoing();
  current?.classList.toggle("is-sending", waiting);
  say(problem ? "" : "Taken back");
  if (!problem || isGone) retraceTrail(job.pairId || pairId(content));
  if (problem) return;
  show(content);
  ahead = null;
  if (current && content.matches("[data-pair]")) keepAhead(current);
  fetchAhead();
}
const outbox = new Outbox({ onHeld, onSettled });
export const retry = () => outbox.retry();

// What an earlier visit could not send goes first; a label on the very pair that is shown is shown with it.
function sendWhatWasKept() {
  const unsent = outbox.unsent();
  if (unsent.length) say("Sending what was kept…");
  for (const { id, kind, pairId: number, url, fields, at } of unsent) {
    const data = new URLSearchParams(fields);
    if (kind === "undo") {
      sendUndo({ id, pairId: number, url, at, fields });
      continue;
    }
    const pair = pairId(shownPair()) === number && kind === "label" ? shownPair() : null;
    if (pair) {
      fill(verdictForm(), Object.fromEntries(data));
      // What is said instead of it is said by the same form.
      verdictForm().elements.client_id.value = data.get("client_id");
      holdStill();
    }
    const typed = typedIn(data);
    const sign = kind === "label" ? data.get("verdict") : kind;
    const version = Number(data.get("version"));
    outbox.add({ id, kind, pair, pairId: number, url, at, sign, typed, version, wasKept: true, body: bodyOf(data, pair) });
  }
}

export function startFlow() {
  begin();
  sendWhatWasKept();
  if (shownPair() && !waiting) fetchAhead();
}

/* The empty state polls; it is replaced only when it says something else, so that it is read out once. */
document.addEventListener("htmx:beforeSwap", (event) => {
  const html = event.detail.xhr.responseText;
  const fresh = new DOMParser().parseFromString(html, "text/html").querySelector("#stage");
  if (!stage().contains(event.detail.elt)) return;
  if (!fresh) location.reload();
  event.detail.shouldSwap = Boolean(fresh) && fresh.textContent !== stage().textContent;
});
// At the swap and not once htmx has settled: a key pressed in between would be timed with the clock of the wait.
document.addEventListener("htmx:afterSwap", () => {
  if (!shownPair() || clockOf === shownPair()) return;
  begin();
  fetchAhead();
});
