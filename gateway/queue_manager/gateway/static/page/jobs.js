/** The table of a queue's jobs: a row each with state, reason, progress and last message, and its details on demand. */

import { h, keyed, setAttribute, setText, show } from "./dom.js";
import { count, counted, exact, reasonText, stateName } from "./format.js";
import { badge, progress, stopwatch, updateBadge, updateJobProgress, updateStopwatch } from "./parts.js";

/**
 * @param {Element} table
 * @param {any[]} jobs
 */
export function updateJobs(table, jobs) {
  keyed(table, jobs, (job) => job.name, createJob, updateJob);
}

/**
 * @param {any} job
 */
function createJob(job) {
  const id = `job-${job.name}`;
  const cell = (/** @type {string} */ name, /** @type {string | null} */ kind, /** @type {Node[]} */ ...children) =>
    h("td", { role: "cell", "data-cell": name, class: kind }, ...children);
  const opener = h("button", { class: "opener", type: "button", "aria-expanded": "false", "aria-controls": id }, job.name);
  const facts = h("dl", { class: "facts" });
  const details = h("tr", { role: "row", id, class: "details", hidden: "" }, h("td", { role: "cell", colspan: "6" }, facts));
  opener.addEventListener("click", () => {
    show(details, details.hidden);
    setAttribute(opener, "aria-expanded", String(!details.hidden));
  });
  return h(
    "tbody",
    { role: "rowgroup" },
    h(
      "tr",
      { role: "row" },
      cell("job", null, opener, h("p", { class: "hint" }, job.type)),
      cell("state", null, badge(), h("p", { class: "reason" })),
      cell("progress", null, progress()),
      cell("records", "number", h("span")),
      cell("took", "number", stopwatch()),
      cell("message", null, h("p")),
    ),
    details,
  );
}

/**
 * @param {Element} group
 * @param {any} job
 */
function updateJob(group, job) {
  const [row, details] = group.children;
  const list = /** @type {Element} */ (details.querySelector("dl"));
  const [, state, progressCell, records, took, message] = row.children;
  setAttribute(group, "data-state", stateName(job.state));
  updateBadge(/** @type {HTMLElement} */ (state.children[0]), job.state);
  setText(state.children[1], reasonText(job.state_reason));
  updateJobProgress(progressCell.children[0], job);
  setText(records.children[0], count(job.records_written));
  updateStopwatch(took.children[0], job);
  setText(message.children[0], job.message);
  keyed(list, facts(job), ([term]) => term, createFact, updateFact);
}

/**
 * What there is to know about a job beyond its row.
 * @param {any} job
 * @returns {[string, string][]}
 */
function facts(job) {
  const { runner } = job;
  const worker = runner && `${runner.runner}: ${[runner.namespace, runner.name].filter(Boolean).join("/")}`;
  const process = Number(runner?.pid) ? ` (process ${runner.pid})` : "";
  const gates = (job.depends_on ?? []).map(
    (/** @type {any} */ gate) => `${gate.job} ${gate.condition.replace("DEPENDENCY_CONDITION_", "").toLowerCase()}`,
  );
  const parameters = Object.entries(job.parameters ?? {}).map(([name, value]) => `${name}=${value}`);
  /** @type {[string, string | undefined][]} */
  const all = [
    ["Target", job.target],
    ["Interval", job.interval],
    ["Waits for", gates.join(", ")],
    ["Parameters", parameters.join(", ")],
    ["Reads", job.collection_inputs?.join(", ") || job.graph_collection || job.source],
    ["Collection", job.collection_output || job.collection_name],
    ["Model", job.model_output],
    ["Infers every", job.inference_interval],
    ["Topic", job.kafka_topic],
    ["Reports as", job.telemetry_id],
    ["Image", job.image],
    ["Worker", worker && worker + process],
    ["Attempt", String(job.attempt)],
    ["Exit code", job.exit_code?.toString()],
    ["Started", job.start_time && exact(job.start_time)],
    ["Ended", job.end_time && exact(job.end_time)],
    ["Last heard", job.last_telemetry_time && exact(job.last_telemetry_time)],
    ["Last error", job.last_error && `${job.last_error} (${counted(Number(job.error_count), "error")} so far)`],
  ];
  return /** @type {[string, string][]} */ (all.filter(([, value]) => value));
}

function createFact() {
  return h("div", {}, h("dt"), h("dd"));
}

/**
 * @param {Element} element
 * @param {[string, string]} fact
 */
function updateFact(element, [term, value]) {
  setText(element.children[0], term);
  setText(element.children[1], value);
}
