/** The dialog that asks before a queue is stopped: how, and why. The page itself shows what comes of it. */

import { stopQueue } from "./api.js";
import { byId, setText } from "./dom.js";
import { stateName } from "./format.js";
import { tell, tellError } from "./outcome.js";

export class StopDialog {
  #dialog = byId("stop");
  #reason = byId("stop-reason");
  #outcome = byId("stop-outcome");
  #queueId = "";
  #busy = false;
  /** Counts the openings: an answer that comes later is not about the queue that is asked about now. */
  #turn = 0;

  constructor() {
    byId("stop-cancel").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#send();
    });
  }

  /**
   * @param {any} queue
   */
  open(queue) {
    this.#turn += 1;
    this.#setBusy(false);
    this.#queueId = queue.queue_id;
    const stopping = stateName(queue.state) === "STOPPING";
    setText(byId("stop-title"), stopping ? "It is being stopped. Stop it by force?" : "Stop this queue?");
    setText(byId("stop-id"), queue.queue_id);
    this.#mode(stopping ? "STOP_MODE_FORCE" : "STOP_MODE_GRACEFUL").checked = true;
    this.#reason.value = "";
    tell(this.#outcome);
    this.#dialog.showModal();
    this.#reason.focus();
  }

  async #send() {
    if (this.#busy) return;
    this.#setBusy(true);
    const turn = this.#turn;
    const mode = this.#dialog.querySelector("input[name=mode]:checked").value;
    try {
      await stopQueue(this.#queueId, { mode, reason: this.#reason.value.trim() });
      if (turn === this.#turn) this.#dialog.close();
    } catch (error) {
      if (turn === this.#turn) tellError(this.#outcome, error, "Press Stop again: stopping twice does no harm.");
    } finally {
      if (turn === this.#turn) this.#setBusy(false);
    }
  }

  /**
   * @param {boolean} busy
   */
  #setBusy(busy) {
    this.#busy = busy;
    this.#dialog.setAttribute("aria-busy", String(busy));
  }

  /**
   * @param {string} value
   */
  #mode(value) {
    return this.#dialog.querySelector(`input[value=${value}]`);
  }
}
