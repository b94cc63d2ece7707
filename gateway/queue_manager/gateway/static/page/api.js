/** The HTTP API: one function a call, errors as `ApiError`. Watching is in watch.js. */

import { learn } from "./clock.js";

/** Longest time that an answer may take, in milliseconds. */
const TIMEOUT = 10_000;

/** The same for a page of the list, which is large: 20 queues of 20 jobs are some 370 KB before compression. */
const LIST_TIMEOUT = 30_000;

/** How many queues a page of the list has. */
const PAGE_SIZE = 20;

/**
 * Who calls: it shows as `requested_by` and in the events.
 * @type {Record<string, string>}
 */
const CHANGES = { "Content-Type": "application/json", "X-Requested-By": "live page" };

/**
 * @typedef {{field: string, description: string}} Violation
 * @typedef {{code: number, message: string, details?: any[]}} ErrorBody
 */

/** An answer that is an error, or none at all. */
export class ApiError extends Error {
  /**
   * @param {number} status of HTTP; 0: there was no answer
   * @param {ErrorBody} body
   */
  constructor(status, body) {
    super(body.message);
    this.status = status;
    this.code = body.code;
    this.details = body.details ?? [];
  }

  /** Whether asking again cannot help: the request is what is wrong. */
  get permanent() {
    return this.status >= 400 && this.status < 500 && ![408, 429, 499].includes(this.status);
  }

  /** Whether the call may have been carried out all the same. */
  get undecided() {
    return this.status === 0 || this.status >= 500;
  }

  /** What is wrong with the request, field by field. @returns {Violation[]} */
  get violations() {
    return this.details.flatMap((detail) => (detail["@type"]?.endsWith("google.rpc.BadRequest") ? detail.field_violations ?? [] : []));
  }
}

/**
 * A page of queues, newest first.
 * @param {{states: string[], pageToken: string, signal: AbortSignal}} filter
 * @returns {Promise<{queues: any[], next_page_token: string}>}
 */
export async function listQueues({ states, pageToken, signal }) {
  const query = new URLSearchParams({ page_size: String(PAGE_SIZE) });
  for (const state of states) query.append("states", `QUEUE_STATE_${state}`);
  if (pageToken) query.set("page_token", pageToken);
  return (await call(`/v1/queues?${query}`, { signal }, LIST_TIMEOUT)).body;
}

/**
 * A queue, or null where it is still at the revision that is known; its `ETag` is that.
 * @param {string} queueId
 * @param {number} [known]
 * @returns {Promise<any>}
 */
export async function getQueue(queueId, known) {
  return (await call(pathOf(queueId), known ? { headers: { "If-None-Match": `W/"${known}"` } } : {})).body;
}

/**
 * Start a queue, or with `validate_only` check the request.
 * @param {string} request as JSON
 * @returns {Promise<{queue: any, created: boolean, plan: any[]}>}
 */
export async function startQueue(request) {
  return (await call("/v1/queues", { method: "POST", headers: CHANGES, body: request })).body;
}

/**
 * Ask for a queue to be stopped.
 * @param {string} queueId
 * @param {{mode: string, reason: string}} how
 */
export async function stopQueue(queueId, how) {
  return (await call(`${pathOf(queueId)}:stop`, { method: "POST", headers: CHANGES, body: JSON.stringify(how) })).body;
}

/**
 * A request that comes with the page.
 * @param {string} name
 * @returns {Promise<string>}
 */
export async function example(name) {
  const response = await fetch(`/static/examples/${name}-pipeline.json`);
  if (!response.ok) throw new ApiError(response.status, { code: 5, message: `the example is not there (HTTP ${response.status})` });
  return response.text();
}

/**
 * @param {string} queueId
 */
export function pathOf(queueId) {
  return `/v1/queues/${encodeURIComponent(queueId)}`;
}

/** An id that nobody else makes. `crypto.randomUUID` is only there over TLS and on localhost. */
export function newRequestId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {string} path
 * @param {RequestInit} options
 * @param {number} timeout in milliseconds
 * @returns {Promise<{response: Response, body: any}>} the body is null where nothing has changed
 */
async function call(path, options, timeout = TIMEOUT) {
  const aborter = new AbortController();
  const timer = setTimeout(() => aborter.abort(), timeout);
  const given = options.signal;
  given?.addEventListener("abort", () => aborter.abort(), { once: true });
  try {
    const response = await fetch(path, { ...options, signal: aborter.signal });
    learn(response.headers.get("Date"));
    if (response.status === 304) return { response, body: null };
    if (response.ok) return { response, body: await response.json() };
    throw new ApiError(response.status, await errorOf(response));
  } catch (error) {
    if (error instanceof ApiError || given?.aborted) throw error;
    const slow = aborter.signal.aborted;
    throw new ApiError(0, { code: 14, message: slow ? `no answer within ${timeout / 1000} s` : "the gateway cannot be reached" });
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The error of an answer; one that a proxy made may have no body that we know.
 * @param {Response} response
 * @returns {Promise<ErrorBody>}
 */
async function errorOf(response) {
  try {
    const body = await response.json();
    if (typeof body.message === "string") return body;
  } catch {
    // not JSON
  }
  return { code: 2, message: `HTTP ${response.status} ${response.statusText}`.trim() };
}
