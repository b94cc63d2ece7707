/** The page of one queue: live by a watch, drawn at most once a frame of the screen however fast changes come. */

import { byId, h, keyed, setAttribute, setText, show } from "./dom.js";
import { EventList } from "./events.js";
import { capitalized, count, counted, estimate, isTerminal, jobSummary, percent, reasonText, stateName } from "./format.js";
import { updateJobs } from "./jobs.js";
import { age, badge, progress, stopwatch, updateAge, updateBadge, updateQueueProgress, updateStopwatch } from "./parts.js";
import { QueueWatch } from "./watch.js";

/** A page that nobody sees lets go of its connection after so many milliseconds; browsers allow few to one host. */
const UNSEEN = 30_000;

export class QueuePage {
  #article = byId("queue");
  #body = byId("queue-body");
  #error = byId("queue-error");
  #stop = byId("stop-open");
  #badge = badge();
  #progress = progress();
  #events = new EventList();
  /** @type {QueueWatch | null} */
  #watch = null;
  /** @type {import("./watch.js").Frame[]} */
  #undrawn = [];
  #drawing = false;
  /** @type {any} */
  #queue = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #unseen;

  /**
   * @param {{onConnection: (state: string, why: string) => void, onStop: (queue: any) => void}} listener
   */
  constructor(listener) {
    this.listener = listener;
    byId("queue-badge").append(this.#badge);
    byId("queue-progress").prepend(this.#progress);
    this.#stop.addEventListener("click", () => this.#queue && listener.onStop(this.#queue));
    document.addEventListener("visibilitychange", () => {
      this.#pauseIfUnseen();
      if (!document.hidden) this.#watch?.open();
      else if (this.#drawing) this.#drawUnseen(); // what it waits for may never come
    });
  }

  /**
   * @param {string} queueId
   * @param {string} back address of the list that it was reached from
   */
  open(queueId, back) {
    this.close();
    setText(byId("queue-title"), queueId);
    setAttribute(byId("back"), "href", back);
    document.title = `${queueId} · Queue Manager`;
    show(this.#article, true);
    this.listener.onConnection("connecting", "");
    const watch = new QueueWatch(queueId, {
      onFrame: (frame) => {
        this.#undrawn.push(frame);
        this.#drawSoon();
      },
      onConnection: (state, why) => this.#connection(state, why),
    });
    this.#watch = watch;
    watch.open();
    this.#pauseIfUnseen(); // a tab that was opened in the background is not told that it is hidden
  }

  close() {
    this.#watch?.close();
    this.#watch = null;
    this.#queue = null;
    this.#undrawn = [];
    this.#events.clear();
    for (const part of [this.#article, this.#body, this.#error, this.#stop, this.#badge]) show(part, false);
    for (const name of ["state", "revision", "frames", "gaps"]) delete this.#article.dataset[name];
    for (const job of byId("jobs").querySelectorAll("tbody")) job.remove();
  }

  focus() {
    byId("queue-title").focus();
  }

  #pauseIfUnseen() {
    clearTimeout(this.#unseen);
    if (document.hidden) this.#unseen = setTimeout(() => this.#watch?.pause(), UNSEEN);
  }

  /**
   * @param {string} state
   * @param {string} why
   */
  #connection(state, why) {
    show(this.#error, state === "gone");
    if (state === "gone") {
      setText(this.#error, capitalized(why));
      document.title = "Not there · Queue Manager";
    }
    if (state === "ended") this.#drawSoon(); // and then say so
    else this.listener.onConnection(state, why);
  }

  #drawSoon() {
    if (this.#drawing) return;
    this.#drawing = true;
    if (document.hidden) this.#drawUnseen();
    else requestAnimationFrame(() => this.#drawAll());
  }

  /** Nothing is painted then, but the title still tells. */
  #drawUnseen() {
    setTimeout(() => this.#drawAll(), 100);
  }

  #drawAll() {
    this.#drawing = false;
    if (this.#watch && this.#undrawn.length) this.#draw(this.#watch);
  }

  /**
   * @param {QueueWatch} watch
   */
  #draw(watch) {
    const frames = this.#undrawn;
    this.#undrawn = [];
    const last = frames[frames.length - 1];
    const queue = last.queue ?? this.#queue;
    if (this.#queue && this.#queue.state !== queue.state) setText(byId("announcer"), `The queue is ${stateName(queue.state)}`);
    this.#queue = queue;

    this.#drawHead(queue);
    updateJobs(byId("jobs"), queue.jobs);
    this.#events.add(frames);
    this.#drawLedger(watch);
    show(this.#body, true);
    if (last.kind === "END") this.listener.onConnection("ended", "");
  }

  /**
   * @param {any} queue
   */
  #drawHead(queue) {
    const state = stateName(queue.state);
    updateBadge(this.#badge, queue.state);
    show(this.#badge, true);
    show(this.#stop, !isTerminal(queue.state));
    updateQueueProgress(this.#progress, queue);
    setText(byId("queue-jobs"), jobSummary(queue.jobs));
    const reason = byId("queue-reason");
    setText(reason, reasonText(queue.state_reason));
    show(reason, Boolean(queue.state_reason));
    keyed(byId("queue-facts"), facts(queue), (fact) => fact.term, createFact, (element, fact) => fact.update(element.children[1].firstChild));
    const told = state === "RUNNING" ? estimate(queue) : null;
    const share = told ? ` ${percent(told.share)}` : "";
    document.title = `${state}${share} · ${queue.queue_id} · Queue Manager`;
  }

  /**
   * @param {QueueWatch} watch
   */
  #drawLedger(watch) {
    const { revision, frames, gaps } = watch;
    const { dataset } = this.#article;
    dataset.state = stateName(this.#queue.state);
    dataset.revision = String(revision);
    dataset.frames = String(frames);
    dataset.gaps = String(gaps);
    setText(byId("ledger"), ledger(watch));
  }
}

/**
 * Which changes were seen, and whether any is missing.
 * @param {QueueWatch} watch
 */
function ledger({ revision, frames, updates, gaps, wholes }) {
  const proof = gaps ? `${counted(gaps, "gap")} between them` : "no gap between them";
  if (!wholes.length) return `Revision ${count(revision)}, followed from the first in ${counted(frames, "frame")}, ${proof}.`;
  const initial = wholes.length === 1 && wholes[0][0] === 1;
  const which = initial
    ? `the first ${counted(wholes[0][1], "revision")}`
    : `revisions ${wholes.map(([first, last]) => `${count(first)} to ${count(last)}`).join(", ")}`;
  const came = `${which} came as one state${wholes.length > 1 ? " each" : ""}`;
  const others = `every ${initial ? "change since" : "other change"} in ${counted(updates, "frame")}`;
  return `Revision ${count(revision)}: ${came}, ${updates ? others : "no change since"}, ${proof}.`;
}

/**
 * @typedef {{term: string, make: () => Element, update: (element: any) => void}} Fact
 */

/**
 * What there is to know about a queue as a whole.
 * @param {any} queue
 * @returns {Fact[]}
 */
function facts(queue) {
  const words = (/** @type {string} */ term, /** @type {string} */ text) => ({
    term,
    make: () => h("span"),
    update: (/** @type {Element} */ element) => setText(element, text),
  });
  const moment = (/** @type {string} */ term, /** @type {string} */ time) => ({
    term,
    make: age,
    update: (/** @type {Element} */ element) => updateAge(element, time),
  });
  const labels = Object.entries(queue.labels ?? {}).map(([key, value]) => (value ? `${key}=${value}` : key));
  return [
    words("Records", count(queue.records_written)),
    { term: "Duration", make: stopwatch, update: (/** @type {Element} */ element) => updateStopwatch(element, queue) },
    words("Symbol", queue.symbol),
    queue.time_range && words("Time range", queue.time_range.replace(":", " – ")),
    moment("Created", queue.create_time),
    words("By", queue.requested_by),
    queue.end_time && moment("Ended", queue.end_time),
    queue.stop_deadline && moment("Workers are deleted", queue.stop_deadline),
    queue.stopped_by && words("Stopped by", queue.stopped_by),
    queue.stop_reason && words("Because", queue.stop_reason),
    queue.failure_policy === "FAILURE_POLICY_STOP_ALL" && words("When a job fails", "all are stopped"),
    labels.length > 0 && words("Labels", labels.join(", ")),
    queue.message && words("Message", queue.message),
  ].filter(Boolean);
}

/**
 * @param {Fact} fact
 */
function createFact({ term, make }) {
  return h("div", {}, h("dt", {}, term), h("dd", {}, make()));
}
