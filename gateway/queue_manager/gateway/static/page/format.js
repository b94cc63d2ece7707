/** What people read: numbers, times, states and reasons in words. Pure functions. */

const numbers = new Intl.NumberFormat("en");
const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/**
 * A whole number with thousands separators. The API writes 64-bit ones as strings.
 * @param {string | number | undefined} value
 */
export function count(value) {
  return numbers.format(BigInt(value ?? 0));
}

/**
 * `1 job`, `2 jobs`.
 * @param {number} many
 * @param {string} noun
 */
export function counted(many, noun) {
  return `${count(many)} ${noun}${many === 1 ? "" : "s"}`;
}

/**
 * Rounded down, so that 100% is said only of what is complete.
 * @param {number} share 0 to 1
 */
export function percent(share) {
  return `${Math.floor(share * 100 + 1e-9)}%`;
}

/**
 * The two largest units: `12 s`, `3 min 05 s`, `2 h 04 min`, `3 d 4 h`.
 * @param {number} milliseconds
 */
export function duration(milliseconds) {
  const ms = Math.max(0, milliseconds);
  const two = (/** @type {number} */ n) => String(Math.floor(n)).padStart(2, "0");
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min ${two((ms % MINUTE) / SECOND)} s`;
  if (ms < DAY) return `${Math.floor(ms / HOUR)} h ${two((ms % HOUR) / MINUTE)} min`;
  return `${Math.floor(ms / DAY)} d ${Math.floor((ms % DAY) / HOUR)} h`;
}

/**
 * How long something took, or has taken until now. Empty before it began.
 * @param {string | undefined} start
 * @param {string | undefined} end
 * @param {number} now
 */
export function took(start, end, now) {
  return start ? duration((end ? Date.parse(end) : now) - Date.parse(start)) : "";
}

/**
 * `just now`, `12 s ago`, `5 min ago`, `3 h ago`, `2 d ago`; of the future: `in 12 s`.
 * @param {string} time
 * @param {number} now
 */
export function relative(time, now) {
  const past = now - Date.parse(time);
  const size = Math.abs(past);
  if (size < 2 * SECOND) return "just now";
  const [unit, name] = size < MINUTE ? [SECOND, "s"] : size < HOUR ? [MINUTE, "min"] : size < DAY ? [HOUR, "h"] : [DAY, "d"];
  const text = `${Math.floor(size / Number(unit))} ${name}`;
  return past > 0 ? `${text} ago` : `in ${text}`;
}

/**
 * To the second, by the reader's time zone.
 * @param {string} time
 */
export function exact(time) {
  return moments.format(new Date(time));
}

/**
 * `QUEUE_STATE_RUNNING` and `JOB_STATE_RUNNING` are `RUNNING`.
 * @param {string} state
 */
export function stateName(state) {
  return state.replace(/^(QUEUE|JOB)_STATE_/, "");
}

/**
 * `REASON_IMAGE_PULL_FAILED` with a message is `Image pull failed: …`. A message that says the same is left to say it
 * alone: `Stopped by ada: seen enough`, and not `Stopped by user: stopped by ada: seen enough`.
 * @param {{code: string, message: string} | undefined} reason
 */
export function reasonText(reason) {
  if (!reason) return "";
  const code = reason.code.replace(/^REASON_/, "").replaceAll("_", " ").toLowerCase().replace("oom", "OOM");
  if (code === "unspecified") return reason.message;
  if (!reason.message) return capitalized(code);
  const same = reason.message.toLowerCase().startsWith(`${code.split(" ")[0]} `);
  return capitalized(same ? reason.message : `${code}: ${reason.message}`);
}

/**
 * @param {string} text
 */
export function capitalized(text) {
  return text ? text[0].toUpperCase() + text.slice(1) : "";
}

/**
 * How far a queue is where not all of its jobs tell: the mean of those that do, as long as the whole can end by itself.
 * @param {{progress?: number, jobs: {state: string, lifetime: string, progress?: number}[]}} queue
 * @returns {{share: number, of: number} | null} `of`: how many jobs told
 */
export function estimate({ progress, jobs }) {
  if (progress !== undefined) return { share: progress, of: jobs.length };
  if (jobs.some((job) => job.lifetime === "LIFETIME_ENDLESS")) return null;
  const told = jobs.map((job) => (stateName(job.state) === "FINISHED" ? 1 : job.progress)).filter((share) => share !== undefined);
  return told.length ? { share: told.reduce((sum, share) => sum + share, 0) / told.length, of: told.length } : null;
}

/**
 * How many jobs are in which state, the most advanced first: `4 finished · 2 running`.
 * @param {{state: string}[]} jobs
 */
export function jobSummary(jobs) {
  const order = ["FAILED", "LOST", "SKIPPED", "FINISHED", "STOPPED", "RUNNING", "STARTING", "LAUNCHING", "PENDING"];
  const names = jobs.map((job) => stateName(job.state));
  return order
    .map((name) => [name, names.filter((other) => other === name).length])
    .filter(([, many]) => many)
    .map(([name, many]) => `${many} ${String(name).toLowerCase()}`)
    .join(" · ");
}

/**
 * @param {string} state a queue's or a job's
 */
export function isTerminal(state) {
  return ["FINISHED", "FAILED", "STOPPED", "LOST", "SKIPPED"].includes(stateName(state));
}

/**
 * How far something is, where it does not say: in words.
 * @param {string} state
 * @param {string[]} lifetimes of the jobs that it is about
 */
export function withoutProgress(state, lifetimes) {
  if (isTerminal(state)) return "";
  if (["PENDING", "LAUNCHING", "STARTING"].includes(stateName(state))) return "does not run yet";
  if (lifetimes.includes("LIFETIME_ENDLESS")) return "runs until it is stopped";
  if (lifetimes.length === 1 && lifetimes[0] === "LIFETIME_DRAINS") return "reads until all is read";
  return "does not tell yet";
}
