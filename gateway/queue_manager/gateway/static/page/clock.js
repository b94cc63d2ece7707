/**
 * The server's time, as near as the page can know it. Ages and durations are counted against the server's timestamps,
 * and a browser's clock may be minutes off; every answer's `Date` says by how much. That has whole seconds, so small
 * differences are left alone.
 */

const WORTH_CORRECTING = 3_000;

let offset = 0;

/** Milliseconds since 1970 by the server's clock. */
export function now() {
  return Date.now() + offset;
}

/**
 * Learn from the `Date` of an answer.
 * @param {string | null} header
 */
export function learn(header) {
  const difference = header ? Date.parse(header) - Date.now() : NaN;
  if (Number.isNaN(difference)) return;
  offset = Math.abs(difference) > WORTH_CORRECTING ? difference : 0;
}
