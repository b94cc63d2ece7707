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
  /** The example that the text in the box began as; none while it is awaited. */
  #loaded = "";
  #busy = false;
  /**
   * The request that was sent last, and the id that it had: sent again it is the same, and starts nothing twice. It
   * outlives the dialog, because its answer may, too.
   */
  #sent = { text: "", requestId: "", started: false };
  /** Counts the openings: what was asked in an earlier one is told to nobody. */
  #turn = 0;

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
    this.#turn += 1;
    this.#setBusy(false);
    tell(this.#outcome);
    if (this.#sent.started) this.#sent = { text: "", requestId: "", started: false };
    this.#dialog.showModal();
    if (!this.#loaded && !this.#text.value) this.#choose(this.#chosen || "historical");
  }

  /**
   * @param {string} name
   */
  async #choose(name) {
    if (this.#loaded) this.#drafts.set(this.#loaded, this.#text.value);
    this.#loaded = "";
    this.#chosen = name;
    for (const radio of this.#dialog.querySelectorAll("input[name=example]")) radio.checked = radio.value === name;
    tell(this.#outcome);
    this.#text.value = "";
    const awaited = () => this.#chosen === name && !this.#loaded;
    try {
      const text = this.#drafts.get(name) ?? (await example(name));
      if (!awaited()) return;
      this.#text.value = text;
      this.#loaded = name;
    } catch (error) {
      if (awaited()) tellError(this.#outcome, error);
    }
  }

  /**
   * @param {boolean} validateOnly
   */
  async #send(validateOnly) {
    if (this.#busy) return;
    const text = this.#text.value;
    let request;
    try {
      request = read(text);
      if (validateOnly && has(request, "validate_only") && valueOf(request, "validate_only") !== true) {
        throw new Error("Take validate_only out of the request first: this button puts it in.");
      }
    } catch (error) {
      tellError(this.#outcome, error);
      return;
    }
    if (this.#sent.text !== text) this.#sent = { text, requestId: newRequestId(), started: false };
    const sent = this.#sent;
    const turn = this.#turn;
    const waits = () => turn === this.#turn && this.#dialog.open;
    this.#setBusy(true);
    try {
      const [field, value] = validateOnly ? ["validate_only", true] : ["request_id", sent.requestId];
      const answer = await startQueue(withField(text, request, field, value));
      sent.started ||= !validateOnly && !valueOf(request, "validate_only");
      if (!waits()) return;
      if (validateOnly) {
        this.#tellPlan(answer);
      } else if (!sent.started) {
        tell(this.#outcome, h("p", {}, "It is in order. Nothing was started: the request has validate_only."));
      } else {
        this.#dialog.close();
        this.onStarted(answer.queue.queue_id);
      }
    } catch (error) {
      if (!waits()) return;
      const twice = has(request, "request_id") && !valueOf(request, "request_id"); // it was left empty: nothing tells them apart
      const advice = twice ? "Look at the list before you press Start again" : "Press Start again: it is not started twice";
      tellError(this.#outcome, error, validateOnly ? "Nothing was started." : `Maybe it has been started. ${advice}.`);
    } finally {
      if (turn === this.#turn) this.#setBusy(false);
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

/**
 * What a request says. It is only looked at: what is sent is its text, because this reader takes the last of equal keys
 * and rounds large numbers, and the gateway does neither.
 * @param {string} text
 * @returns {Record<string, any>}
 */
function read(text) {
  try {
    const request = JSON.parse(text);
    if (typeof request !== "object" || request === null || Array.isArray(request)) throw new Error("a request is an object: { … }");
    return request;
  } catch (error) {
    throw new Error(`This is not JSON that can be read: ${error instanceof Error ? error.message : error}`);
  }
}

/**
 * The text of a request with one more field, on its first line so that the others stay where they are; one that it has
 * already is left as it is.
 * @param {string} text
 * @param {Record<string, any>} request what the text says
 * @param {string} name
 * @param {unknown} value
 */
function withField(text, request, name, value) {
  if (has(request, name)) return text;
  const comma = Object.keys(request).length ? ", " : "";
  return text.replace("{", () => `{${JSON.stringify(name)}: ${JSON.stringify(value)}${comma}`);
}

/**
 * Whether a request has a field, under either of the names that the API takes.
 * @param {Record<string, any>} request
 * @param {string} name
 */
function has(request, name) {
  return Object.hasOwn(request, name) || Object.hasOwn(request, camelCase(name));
}

/**
 * @param {Record<string, any>} request
 * @param {string} name
 */
function valueOf(request, name) {
  return request[name] ?? request[camelCase(name)];
}

/**
 * @param {string} name
 */
function camelCase(name) {
  return name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
}
