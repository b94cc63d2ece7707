/**
 * The list of queues, filtered by state, a page at a time. While somebody looks at it, it is asked for again 2 s after
 * each answer: never twice at a time, so a slow line is not made slower.
 */

import { ApiError, listQueues } from "./api.js";
import { byId, h, keyed, setAttribute, setText, show } from "./dom.js";
import { capitalized, count, counted, jobSummary, reasonText, stateName } from "./format.js";
import { age, badge, progress, stopwatch, updateAge, updateBadge, updateQueueProgress, updateStopwatch } from "./parts.js";

const EVERY = 2_000;
/** After so long without an answer, in milliseconds, the line is said to be slow. */
const SLOW = 4_000;
const STATES = ["PENDING", "RUNNING", "STOPPING", "FINISHED", "FAILED", "STOPPED"];

/**
 * @typedef {{states: string[], pageToken: string}} Place what of the list is shown, as the address says
 */

export class QueueList {
  #section = byId("list");
  #error = byId("list-error");
  #empty = byId("list-empty");
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #slow;
  /** @type {AbortController | null} */
  #asking = null;
  /** The queue whose page somebody comes from. */
  #returning = "";
  /** @type {Place} */
  #place = { states: [], pageToken: "" };

  /**
   * @param {{onConnection: (state: string, why: string) => void, onStart: () => void}} listener
   */
  constructor(listener) {
    this.listener = listener;
    const filter = byId("filter");
    for (const state of STATES) {
      const box = h("input", { type: "checkbox", name: "state", value: state });
      filter.append(h("label", { class: "chip" }, box, h("span", {}, state.toLowerCase())));
    }
    filter.addEventListener("change", () => {
      const states = [...filter.querySelectorAll("input:checked")].map((box) => box.value);
      location.replace(address({ states, pageToken: "" })); // no step in the history: it is the same list
    });
    filter.addEventListener("submit", (/** @type {Event} */ event) => event.preventDefault());
    this.#empty.querySelector("button").addEventListener("click", () => listener.onStart());
    document.addEventListener("visibilitychange", () => this.#go());
  }

  /**
   * @param {URLSearchParams} query of the address
   */
  open(query) {
    const states = (query.get("states") ?? "").split(",").filter((state) => STATES.includes(state));
    const place = { states, pageToken: query.get("page_token") ?? "" };
    if (address(place) !== address(this.#place)) this.#forget();
    this.#place = place;
    for (const box of byId("filter").querySelectorAll("input")) box.checked = states.includes(box.value);
    document.title = "Queues · Queue Manager";
    show(this.#section, true);
    this.listener.onConnection("connecting", "");
    this.#go();
  }

  close() {
    show(this.#section, false);
    this.#go();
  }

  /** Where this list is, as an address. */
  get address() {
    return address(this.#place);
  }

  /**
   * Put the focus where somebody left the list, now or, if that is not there yet, when it is.
   * @param {string} queueId
   */
  focus(queueId) {
    byId("list-title").focus();
    this.#returning = queueId;
    this.#focusRow();
  }

  #focusRow() {
    const link = byId("queue-rows").querySelector(`[data-key="${CSS.escape(this.#returning)}"] a`);
    if (document.activeElement === byId("list-title")) link?.focus(); // else somebody has gone on
  }

  /** Ask now and from now on, if anybody looks. */
  #go() {
    clearTimeout(this.#timer);
    clearTimeout(this.#slow);
    this.#asking?.abort();
    this.#asking = null;
    if (!this.#section.hidden && !document.hidden) this.#ask();
  }

  async #ask() {
    const asking = new AbortController();
    this.#asking = asking;
    let late = false;
    this.#slow = setTimeout(() => {
      late = true;
      if (this.#error.hidden) this.listener.onConnection("slow", "the answer is long in coming"); // else more has been said
    }, SLOW);
    try {
      const page = await listQueues({ ...this.#place, signal: asking.signal });
      if (asking.signal.aborted) return;
      this.#render(page);
      this.#returning = "";
      show(this.#error, false);
      this.listener.onConnection(late ? "slow" : "live", late ? "the answer was long in coming" : "");
    } catch (error) {
      if (asking.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      setText(this.#error, `${capitalized(error.message)}. ${error.permanent ? "" : "What is shown may be old; asking again…"}`);
      show(this.#error, true);
      this.listener.onConnection("reconnecting", error.message);
    }
    clearTimeout(this.#slow);
    this.#timer = setTimeout(() => this.#ask(), EVERY);
  }

  #forget() {
    this.#render({ queues: [], next_page_token: "" });
    show(this.#empty, false);
  }

  /**
   * @param {{queues: any[], next_page_token: string}} page
   */
  #render({ queues, next_page_token: next }) {
    const { states, pageToken } = this.#place;
    show(byId("queues"), queues.length > 0);
    keyed(byId("queue-rows"), queues, (queue) => queue.queue_id, createRow, updateRow);
    if (this.#returning) this.#focusRow();

    const [title, hint, start] = this.#empty.children;
    const filtered = states.length > 0 || pageToken !== "";
    show(this.#empty, queues.length === 0);
    setText(title, filtered ? "No queue here" : "No queue yet");
    setText(
      hint,
      filtered
        ? `None is ${states.map((state) => state.toLowerCase()).join(" or ") || "older"}. Change the filter above to see others.`
        : "Start one from an example: it runs with simulated workers where there are no real ones.",
    );
    show(start, !filtered);

    show(byId("newest"), pageToken !== "");
    setAttribute(byId("newest"), "href", address({ states, pageToken: "" }));
    show(byId("older"), next !== "");
    setAttribute(byId("older"), "href", address({ states, pageToken: next }));
  }
}

/**
 * @param {Place} place
 */
function address({ states, pageToken }) {
  const query = new URLSearchParams();
  if (states.length) query.set("states", states.join(","));
  if (pageToken) query.set("page_token", pageToken);
  const text = query.toString().replaceAll("%2C", ",");
  return text ? `#/?${text}` : "#/";
}

/**
 * @param {any} queue
 */
function createRow(queue) {
  const cell = (/** @type {string} */ name, /** @type {string | null} */ kind, /** @type {Node[]} */ ...children) =>
    h("td", { role: "cell", "data-cell": name, class: kind }, ...children);
  const link = h("a", { class: "row-link", href: `#/queues/${encodeURIComponent(queue.queue_id)}` }, queue.queue_id);
  return h(
    "tr",
    { role: "row" },
    cell("queue", null, link, h("p", { class: "hint" })),
    cell("state", null, badge(), h("p", { class: "reason" })),
    cell("progress", null, progress(), h("p", { class: "hint" })),
    cell("records", "number", h("span")),
    cell("took", "number", stopwatch()),
    cell("created", "number", age()),
  );
}

/**
 * @param {Element} row
 * @param {any} queue
 */
function updateRow(row, queue) {
  const [name, state, progressCell, records, took, created] = row.children;
  const { jobs } = queue;
  setAttribute(row, "data-state", stateName(queue.state));
  setText(name.children[1], [queue.symbol, queue.time_range.replace(":", " – "), counted(jobs.length, "job")].filter(Boolean).join(" · "));
  updateBadge(/** @type {HTMLElement} */ (state.children[0]), queue.state);
  setText(state.children[1], reasonText(queue.state_reason));
  setAttribute(state.children[1], "title", reasonText(queue.state_reason) || null);
  updateQueueProgress(progressCell.children[0], queue);
  setText(progressCell.children[1], jobSummary(jobs));
  setText(records.children[0], count(queue.records_written));
  updateStopwatch(took.children[0], queue);
  updateAge(created.children[0], queue.create_time);
}
