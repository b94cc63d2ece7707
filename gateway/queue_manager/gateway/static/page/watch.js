/**
 * Watching a queue without losing a change, and proving it: for every frame, the revision before it plus its
 * `revisions_merged` is its `revision`. What does not add up is counted in `gaps`; what came as a state alone, because the
 * history no longer reaches back to the changes that led there, is in `wholes`.
 *
 * The first stream begins after revision 0, so that what the queue's history kept comes first, then every change as it
 * happens. Where a connection is cut, the browser goes on by itself after the last `id`. Where it was answered with an
 * error, it gives up; then we ask what is wrong, and open a new stream after the last revision that we saw.
 */

import { ApiError, getQueue, pathOf } from "./api.js";

/** Pauses between attempts, in milliseconds: doubled from the first up to the last, less up to a third of jitter. */
const FIRST_PAUSE = 1_500;
const LAST_PAUSE = 10_000;

/**
 * After so long without a frame the queue is asked for, in milliseconds: heartbeats are invisible to a page, and the
 * gateway keeps a stream open while its server is away. Where nothing has changed the answer is a 304 of some bytes.
 */
const SILENCE = 2_000;
/** After so long without the changes that are known to be there, the stream is taken for dead. */
const STUCK = 5_000;

const KINDS = ["SNAPSHOT", "UPDATE", "RESYNC", "END"];

/**
 * @typedef {"connecting" | "live" | "reconnecting" | "paused" | "ended" | "gone"} Connection
 * @typedef {{kind: string, revision: number, merged: number, gap: boolean, queue: any, event: any}} Frame
 */

export class QueueWatch {
  /** The newest revision that was seen. */
  revision = 0;
  /** How many frames came. */
  frames = 0;
  /** How many of them did not follow on the one before. */
  gaps = 0;
  /** How many told a change. */
  updates = 0;
  /** Stretches of revisions that came as one state, without their changes: the first and the last. @type {[number, number][]} */
  wholes = [];

  /** @type {EventSource | null} */
  #source = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #attempts = 0;
  /** The revision that we had when the queue was found to be at another one, and when that was. */
  #behind = { revision: -1, since: 0 };
  #over = false;
  /** Counts up whenever what was under way has become void. */
  #turn = 0;

  /**
   * @param {string} queueId
   * @param {{onFrame: (frame: Frame) => void, onConnection: (state: Connection, why: string) => void}} listener
   */
  constructor(queueId, listener) {
    this.queueId = queueId;
    this.listener = listener;
  }

  /** Begin, or go on after `pause`. */
  open() {
    if (this.#over || this.#source) return;
    this.#cease();
    const source = new EventSource(`${pathOf(this.queueId)}:watch?after_revision=${this.revision}`);
    this.#source = source;
    source.onopen = () => {
      this.#attempts = 0;
      this.#isLive();
    };
    source.onerror = () => {
      this.listener.onConnection("reconnecting", "");
      if (source.readyState === EventSource.CLOSED) this.#inquire();
      else clearTimeout(this.#timer); // the browser tries again by itself
    };
    for (const kind of KINDS) source.addEventListener(kind, (message) => this.#take(kind, JSON.parse(message.data)));
    source.addEventListener("ERROR", () => this.#inquire());
  }

  /** Let go of the connection for a while. Nothing is lost by it. */
  pause() {
    if (this.#over) return;
    this.#cease();
    this.listener.onConnection("paused", "");
  }

  /** End it. */
  close() {
    this.#over = true;
    this.#cease();
  }

  /**
   * @param {string} kind
   * @param {any} body
   */
  #take(kind, body) {
    const revision = Number(body.revision);
    const merged = Number(body.revisions_merged);
    const gap = this.revision + merged !== revision;
    this.frames += 1;
    if (gap) this.gaps += 1;
    if (body.event) this.updates += 1;
    else if (merged) this.wholes.push([revision - merged + 1, revision]);
    this.revision = revision;
    const ended = kind === "END";
    if (ended) this.close();
    else this.#isLive();
    this.listener.onFrame({ kind, revision, merged, gap, queue: body.queue, event: body.event });
    if (ended) this.listener.onConnection("ended", "");
  }

  #isLive() {
    this.listener.onConnection("live", "");
    this.#after(SILENCE, () => this.#lookAfterSilence());
  }

  /** Nothing came for a while. Maybe nothing happened; maybe the gateway waits for the server, or nobody is there. */
  async #lookAfterSilence() {
    const turn = this.#turn;
    const seen = this.revision;
    let why = "";
    try {
      const queue = await getQueue(this.queueId, seen);
      if (turn === this.#turn && queue && seen === this.revision && Number(queue.revision) !== seen) {
        why = "changes do not come through";
        if (this.#behind.revision !== seen) this.#behind = { revision: seen, since: performance.now() };
        else if (performance.now() - this.#behind.since >= STUCK) return this.#inquire();
      }
    } catch (error) {
      why = error instanceof ApiError ? error.message : String(error);
    }
    if (turn !== this.#turn || seen !== this.revision) return;
    this.listener.onConnection(why ? "reconnecting" : "live", why);
    this.#after(SILENCE, () => this.#lookAfterSilence());
  }

  /** The stream is over and was not meant to be: find out why, and open a new one, or say that there is none. */
  async #inquire() {
    this.#cease();
    const turn = this.#turn;
    this.listener.onConnection("reconnecting", "");
    try {
      const queue = await getQueue(this.queueId);
      if (turn !== this.#turn) return;
      if (Number(queue.revision) < this.revision) {
        // Its records were set back: begin anew.
        this.revision = this.frames = this.updates = 0;
        this.wholes = [];
      }
    } catch (error) {
      if (turn !== this.#turn) return;
      if (!(error instanceof ApiError)) throw error;
      if (error.permanent) {
        this.close();
        this.listener.onConnection("gone", error.message);
        return;
      }
      this.listener.onConnection("reconnecting", error.message);
    }
    const pause = Math.min(LAST_PAUSE, FIRST_PAUSE * 2 ** this.#attempts);
    this.#attempts += 1;
    this.#after(pause * (1 - Math.random() / 3), () => this.open());
  }

  /**
   * @param {number} milliseconds
   * @param {() => void} action instead of what was to come
   */
  #after(milliseconds, action) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(action, milliseconds);
  }

  /** Nothing more comes of what is under way. */
  #cease() {
    this.#turn += 1;
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }
}
