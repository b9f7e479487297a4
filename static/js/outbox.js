// What a person did, on its way to the server: in order, each until the server has answered, nothing dropped silently.
"use strict";

(() => {
  const TIMEOUT_MS = 20000;
  const LONGEST_WAIT_MS = 15000;

  function csrfToken() {
    const cookie = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/);
    return cookie ? cookie[1] : document.querySelector("[name=csrfmiddlewaretoken]").value;
  }

  // The answers that settle an act: it was taken (2xx), or refused for good (400, 404, 409). The rest is tried again.
  async function post(job) {
    const headers = { "HX-Request": "true", "X-CSRFToken": csrfToken() };
    let response;
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      response = await fetch(job.url, { method: "POST", headers, body: job.body(), signal });
      if (response.redirected || response.status === 403) return { again: "signed-out" };
      if (response.status >= 500 || response.status === 429) return { again: "server" };
      return { status: response.status, html: await response.text() };
    } catch {
      return { again: "unreachable" };
    }
  }

  class Outbox {
    #jobs = [];
    #running = false;
    #wake = null;

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
      this.#run();
    }

    // Say something else instead of what waits; if that is on its way already, this follows it.
    amend(job, changes) {
      Object.assign(job, changes);
      job.version = (job.version || 0) + 1;
    }

    retry() {
      if (this.#wake) this.#wake();
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
          this.onSettled(job, outcome);
        }
      }
      this.#running = false;
    }
  }

  window.Outbox = Outbox;
})();
