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
    this.#busy = true;
    this.#dialog.setAttribute("aria-busy", "true");
    const mode = this.#dialog.querySelector("input[name=mode]:checked").value;
    try {
      await stopQueue(this.#queueId, { mode, reason: this.#reason.value.trim() });
      this.#dialog.close();
    } catch (error) {
      tellError(this.#outcome, error, "Press Stop again: stopping twice does no harm.");
    } finally {
      this.#busy = false;
      this.#dialog.setAttribute("aria-busy", "false");
    }
  }

  /**
   * @param {string} value
   */
  #mode(value) {
    return this.#dialog.querySelector(`input[value=${value}]`);
  }
}
