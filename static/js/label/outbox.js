// What a person did, on its way to the server: in order, each until the server has answered, nothing dropped silently.
// Each act is kept in this browser until then, so that closing the tab loses nothing; the server knows a repeated one.
import { csrfToken, pairId } from "./dom.js";
import { allKept, forget, keep, kept } from "./store.js";

const TIMEOUT_MS = 20000;
const LONGEST_WAIT_MS = 15000;
const KIND = "unsent";

// What an act says, and how often that was changed: a copy of an earlier version may reach the server after it.
function bodyOf(job) {
  const body = job.body();
  if (job.version) body.set("version", job.version);
  return body;
}

// The answers that settle an act: it was taken (2xx), or refused for good (400, 404, 409, 410). The rest is tried again.
async function post(job) {
  const headers = { "HX-Request": "true", "X-CSRFToken": csrfToken() };
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const response = await fetch(job.url, { method: "POST", headers, body: bodyOf(job), signal });
    if (response.redirected || response.status === 403) return { again: "signed-out" };
    if (response.status >= 500 || response.status === 429) return { again: "server" };
    return { status: response.status, html: await response.text() };
  } catch {
    return { again: "unreachable" };
  }
}

export class Outbox {
  #jobs = [];
  #running = false;
  #wake = null;
  #lastAt = 0;

  constructor({ onHeld, onSettled }) {
    this.onHeld = onHeld;
    this.onSettled = onSettled;
    window.addEventListener("online", () => this.retry());
    window.addEventListener("focus", () => this.retry());
    window.addEventListener("beforeunload", (event) => {
      if (this.#jobs.length) event.preventDefault();
    });
  }

  get size() {
    return this.#jobs.length;
  }

  add(job) {
    this.#jobs.push(job);
    this.#keep(job);
    this.#run();
  }

  // What an earlier visit could not send.
  unsent() {
    return allKept(KIND)
      .filter(({ value }) => value?.url)
      .sort((one, other) => one.value.at - other.value.at)
      .map(({ id, value }) => ({ ...value, id }));
  }

  // Say something else instead of what waits; if that is on its way already, this follows it. Another tab may have the same
  // act and have said something else before: of all that is said, the last counts.
  amend(job, changes) {
    const elsewhere = new URLSearchParams(kept(KIND, job.id)?.fields).get("version");
    Object.assign(job, changes);
    job.version = Math.max(job.version || 0, Number(elsewhere)) + 1;
    this.#keep(job);
  }

  sends(pair) {
    return Boolean(pair) && this.#jobs.some((job) => job.pair === pair);
  }
  has(kind) {
    return this.#jobs.some((job) => job.kind === kind);
  }
  // The number of the pair of what was done last.
  get lastPairId() {
    return this.#jobs.at(-1)?.pairId;
  }

  // What waits behind an act that failed, and only made sense after it.
  drop(isPointless) {
    this.#jobs.filter(isPointless).forEach((job) => forget(KIND, job.id));
    this.#jobs = this.#jobs.filter((job) => !isPointless(job));
  }

  retry() {
    if (this.#wake) this.#wake();
  }

  // Two acts of one moment keep their order when they are sent after a visit to come.
  #keep(job) {
    job.id ||= `${job.kind}-${pairId(job.pair)}`;
    job.at ||= Math.max(Date.now(), this.#lastAt + 1);
    this.#lastAt = Math.max(job.at, this.#lastAt);
    keep(KIND, job.id, { kind: job.kind, pairId: job.pairId, url: job.url, fields: String(bodyOf(job)), at: job.at });
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    let wait = 1000;
    while (this.#jobs.length) {
      const job = this.#jobs[0];
      const sent = job.version;
      const outcome = await post(job);
      if (!outcome.again && job.version !== sent) continue;
      if (outcome.again) {
        this.onHeld(job, outcome.again);
        await new Promise((resolve) => {
          this.#wake = resolve;
          setTimeout(resolve, wait);
        });
        this.#wake = null;
        wait = Math.min(wait * 2, LONGEST_WAIT_MS);
      } else {
        wait = 1000;
        this.#jobs.shift();
        forget(KIND, job.id);
        this.onSettled(job, outcome);
      }
    }
    this.#running = false;
  }
}
