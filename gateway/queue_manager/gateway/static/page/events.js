/**
 * The list of what happened to a queue, newest first: an entry a frame. Those that only carry progress are many, so they
 * are bounded by themselves, lest they push out the others, and are hidden until somebody wants them.
 */

import { byId, h } from "./dom.js";
import { capitalized, count, counted, estimate, percent, reasonText } from "./format.js";
import { age, badge, updateAge, updateBadge } from "./parts.js";

/** How many entries are kept: of progress, and of everything else. */
const LIMIT = 100;

export class EventList {
  #list = byId("events");
  #all = byId("events-all");
  #newest = 0;

  constructor() {
    this.#all.addEventListener("change", () => this.#filter());
  }

  clear() {
    this.#list.replaceChildren();
    this.#newest = 0;
    this.#filter();
  }

  /**
   * @param {import("./watch.js").Frame[]} frames in their order
   */
  add(frames) {
    const entries = [];
    for (const frame of frames) {
      if (frame.kind === "END") continue; // it stands for no change
      if (frame.revision <= this.#newest) this.clear(); // the queue's records were set back
      this.#newest = frame.revision;
      entries.unshift(entry(frame));
    }
    this.#list.prepend(...entries);
    for (const kind of ["progress", "change"]) {
      for (const old of [...this.#list.querySelectorAll(`[data-kind="${kind}"]`)].slice(LIMIT)) old.remove();
    }
  }

  #filter() {
    this.#list.classList.toggle("all", this.#all.checked);
  }
}

/**
 * @param {import("./watch.js").Frame} frame
 */
function entry({ kind, revision, merged, gap, queue, event }) {
  const progress = event?.type === "EVENT_TYPE_PROGRESS";
  const made = h("li", {
    "data-revision": String(revision),
    "data-merged": String(merged),
    "data-frame": kind,
    "data-kind": progress ? "progress" : "change",
    "data-type": event ? event.type.replace("EVENT_TYPE_", "") : null,
  });
  const time = age();
  updateAge(time, event?.time ?? queue?.update_time);
  const notes = [
    merged > 1 && event ? `stands for ${counted(merged, "change")}, of which it is the last` : "",
    gap ? "does not follow on the revision before" : "",
  ].filter(Boolean);
  const words = h("div", {}, ...(event ? wordsOf(event, queue) : [h("p", {}, wholeOf(revision, merged))]));
  if (notes.length) words.append(h("p", { class: "hint" }, notes.join("; ")));
  made.append(time, h("span", { class: "revision", title: `Revision ${revision}` }, `#${revision}`), words);
  return made;
}

/**
 * @param {number} revision
 * @param {number} merged
 */
function wholeOf(revision, merged) {
  const which = merged > 1 ? `; the changes from ${count(revision - merged + 1)} on are no longer kept` : "";
  return `As it was at revision ${count(revision)}${which}`;
}

/**
 * A line for the queue where its state changed, then one for all jobs that came to the same state for the same reason.
 * @param {any} event
 * @param {any} queue after it
 */
function wordsOf(event, queue) {
  if (event.type === "EVENT_TYPE_PROGRESS") {
    const told = estimate(queue);
    return [h("p", {}, `${count(queue.records_written)} records${told ? `, ${percent(told.share)}` : ""}`)];
  }
  /** @type {Element[]} */
  const lines = [];
  const told = !["EVENT_TYPE_QUEUE_STATE_CHANGED", "EVENT_TYPE_JOB_STATE_CHANGED"].includes(event.type);
  if (told) {
    const actor = event.actor === "queue-manager" || event.message.includes(event.actor) ? "" : ` by ${event.actor}`;
    lines.push(h("p", {}, capitalized(event.message) + actor));
  } else if (event.before !== event.after) {
    lines.push(line(event.after, "the queue", ""));
  }
  if (event.type === "EVENT_TYPE_QUEUE_CREATED") return lines; // it has said how many jobs there are
  /** @type {Map<string, {state: string, jobs: string[], reason: string}>} */
  const groups = new Map();
  for (const { job, after, reason } of event.job_changes) {
    const key = `${after} ${reasonText(reason)}`;
    /** @type {{state: string, jobs: string[], reason: string}} */
    const group = groups.get(key) ?? { state: after, jobs: [], reason: reasonText(reason) };
    groups.set(key, group);
    group.jobs.push(job);
  }
  for (const { state, jobs, reason } of groups.values()) lines.push(line(state, jobs.join(", "), reason));
  return lines.length ? lines : [h("p", {}, capitalized(event.message))];
}

/**
 * @param {string} state
 * @param {string} whose
 * @param {string} reason
 */
function line(state, whose, reason) {
  const mark = badge();
  updateBadge(mark, state);
  return h("p", {}, mark, ` ${whose} `, h("span", { class: "hint" }, reason));
}
