/** The dialog that starts a queue: an example to begin with, to be edited at will, checked, and started. */

import { example, newRequestId, startQueue } from "./api.js";
import { byId, h } from "./dom.js";
import { counted } from "./format.js";
import { tell, tellError } from "./outcome.js";

const EXAMPLES = { historical: "Historical: ends by itself", realtime: "Real-time: runs until it is stopped" };

export class StartDialog {
  #dialog = byId("start");
  #text = byId("start-body");
  #outcome = byId("start-outcome");
  /** What was edited, by example: a choice of another one loses nothing. @type {Map<string, string>} */
  #drafts = new Map();
  #chosen = "";
  #busy = false;
  /** The request that was sent last, and the id that it had: sent again it is the same, and starts nothing twice. */
  #sent = { text: "", requestId: "" };

  /**
   * @param {(queueId: string) => void} onStarted
   */
  constructor(onStarted) {
    this.onStarted = onStarted;
    for (const [name, label] of Object.entries(EXAMPLES)) {
      const radio = h("input", { type: "radio", name: "example", value: name });
      radio.addEventListener("change", () => this.#choose(name));
      byId("start-examples").append(h("label", { class: "choice" }, radio, h("span", {}, label)));
    }
    byId("start-cancel").addEventListener("click", () => this.#dialog.close());
    byId("start-check").addEventListener("click", () => this.#send(true));
    this.#dialog.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#send(false);
    });
    this.#text.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#send(false);
    });
  }

  open() {
    tell(this.#outcome);
    this.#sent = { text: "", requestId: "" };
    this.#dialog.showModal();
    if (!this.#chosen) this.#choose("historical");
  }

  /**
   * @param {string} name
   */
  async #choose(name) {
    if (this.#chosen) this.#drafts.set(this.#chosen, this.#text.value);
    this.#chosen = name;
    for (const radio of this.#dialog.querySelectorAll("input[name=example]")) radio.checked = radio.value === name;
    tell(this.#outcome);
    let draft = this.#drafts.get(name);
    if (draft === undefined) {
      try {
        draft = await example(name);
      } catch (error) {
        draft = "";
        tellError(this.#outcome, error);
      }
    }
    if (this.#chosen === name) this.#text.value = draft;
  }

  /**
   * @param {boolean} validateOnly
   */
  async #send(validateOnly) {
    if (this.#busy) return;
    const text = this.#text.value;
    let request;
    try {
      request = JSON.parse(text);
      if (typeof request !== "object" || request === null || Array.isArray(request)) throw new Error("a request is an object: { … }");
    } catch (error) {
      tellError(this.#outcome, new Error(`This is not JSON that can be read: ${error instanceof Error ? error.message : error}`));
      return;
    }
    if (this.#sent.text !== text) this.#sent = { text, requestId: newRequestId() };
    this.#setBusy(true);
    try {
      if (validateOnly) {
        this.#tellPlan(await startQueue({ ...request, validate_only: true }));
      } else {
        const { queue } = await startQueue({ request_id: this.#sent.requestId, ...request });
        if (request.validate_only) {
          tell(this.#outcome, h("p", {}, "It is in order. Nothing was started: the request has validate_only."));
          return;
        }
        this.#dialog.close();
        this.onStarted(queue.queue_id);
      }
    } catch (error) {
      tellError(this.#outcome, error, "Maybe it has been started. Press Start again: it is not started twice.");
    } finally {
      this.#setBusy(false);
    }
  }

  /**
   * @param {{plan: any[]}} answer
   */
  #tellPlan({ plan }) {
    const items = plan.map(({ job, image }) => h("li", {}, h("strong", {}, job), " ", h("code", {}, image)));
    tell(this.#outcome, h("p", {}, `It is in order. It would launch ${counted(plan.length, "job")}:`), h("ul", {}, ...items));
    this.#outcome.setAttribute("data-kind", "good");
  }

  /**
   * @param {boolean} busy
   */
  #setBusy(busy) {
    this.#busy = busy;
    this.#dialog.setAttribute("aria-busy", String(busy));
  }
}
