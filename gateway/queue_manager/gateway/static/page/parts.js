/** The small parts that both pages show: state badges, progress bars, times. Each is made once and then updated. */

import { now } from "./clock.js";
import { h, setAttribute, setText } from "./dom.js";
import { estimate, exact, isTerminal, percent, relative, stateName, took, withoutProgress } from "./format.js";

/** A form and a word for each state: nobody has to tell them by their colour. */
const MARKS = {
  PENDING: "○",
  LAUNCHING: "◌",
  STARTING: "◔",
  RUNNING: "●",
  STOPPING: "◐",
  FINISHED: "✓",
  FAILED: "✕",
  STOPPED: "■",
  LOST: "?",
  SKIPPED: "↷",
};

/** @returns {HTMLElement} */
export function badge() {
  return h("span", { class: "badge" }, h("span", { "aria-hidden": "true" }), h("span"));
}

/**
 * @param {HTMLElement} element made by `badge`
 * @param {string} state a queue's or a job's
 */
export function updateBadge(element, state) {
  const name = stateName(state);
  setAttribute(element, "data-state", name);
  setText(element.children[0], MARKS[/** @type {keyof typeof MARKS} */ (name)] ?? "");
  setText(element.children[1], name);
}

/** @returns {HTMLElement} */
export function progress() {
  return h("div", { class: "progress" }, h("progress", { max: "1", value: "0" }), h("span"));
}

/**
 * @param {Element} element made by `progress`
 * @param {any} job
 */
export function updateJobProgress(element, job) {
  const share = stateName(job.state) === "FINISHED" ? 1 : job.progress;
  const known = share !== undefined;
  drawProgress(element, job.state, job.name, share, known ? percent(share) : withoutProgress(job.state, [job.lifetime]));
}

/**
 * @param {Element} element made by `progress`
 * @param {any} queue
 */
export function updateQueueProgress(element, queue) {
  const { state, jobs } = queue;
  const told = stateName(state) === "FINISHED" ? { share: 1, of: jobs.length } : estimate(queue);
  const partly = told !== null && told.of < jobs.length;
  const lifetimes = jobs.map((/** @type {any} */ job) => job.lifetime);
  const words = told ? (partly ? "≈ " : "") + percent(told.share) : withoutProgress(state, lifetimes);
  drawProgress(element, state, queue.queue_id, told?.share, words);
  setAttribute(element, "title", partly ? `The mean of ${told.of} of its ${jobs.length} jobs; the others do not tell` : null);
}

/**
 * @param {Element} element made by `progress`
 * @param {string} state
 * @param {string} subject what it is the progress of
 * @param {number | undefined} share
 * @param {string} text
 */
function drawProgress(element, state, subject, share, text) {
  const [bar, words] = element.children;
  setAttribute(element, "data-state", stateName(state));
  setAttribute(bar, "hidden", share === undefined ? "" : null);
  setAttribute(bar, "aria-label", `Progress of ${subject}`);
  if (share !== undefined) setAttribute(bar, "value", String(share));
  setAttribute(words, "class", share === undefined ? "hint" : null);
  setText(words, text);
}

/**
 * A time as its distance from now, with the exact one as its title.
 * @returns {HTMLTimeElement}
 */
export function age() {
  return h("time", { "data-age": "" });
}

/**
 * @param {Element} element made by `age`
 * @param {string | undefined} time
 */
export function updateAge(element, time) {
  if (element.getAttribute("datetime") === (time ?? null)) return;
  setAttribute(element, "datetime", time ?? null);
  setAttribute(element, "title", time ? exact(time) : null);
  setText(element, time ? relative(time, now()) : "");
}

/**
 * How long something took, or has taken so far.
 * @returns {HTMLElement}
 */
export function stopwatch() {
  return h("span", { "data-took": "" });
}

/**
 * @param {Element} element made by `stopwatch`
 * @param {{state: string, start_time?: string, end_time?: string}} subject
 */
export function updateStopwatch(element, { state, start_time: start, end_time: end }) {
  // What ended without ever having run has an end alone.
  const over = isTerminal(state);
  setAttribute(element, "data-start", start ?? null);
  setAttribute(element, "data-end", over ? end ?? start ?? null : null);
  setAttribute(element, "title", start ? `${exact(start)} – ${over && end ? exact(end) : "now"}` : null);
  setText(element, took(start, over ? end ?? start : undefined, now()) || "–");
}

/** Let the times that are on the page pass. */
export function passTime() {
  for (const element of document.querySelectorAll("time[data-age][datetime]")) {
    setText(element, relative(/** @type {string} */ (element.getAttribute("datetime")), now()));
  }
  for (const element of document.querySelectorAll("[data-took][data-start]:not([data-end])")) {
    setText(element, took(element.getAttribute("data-start") ?? undefined, undefined, now()));
  }
}
