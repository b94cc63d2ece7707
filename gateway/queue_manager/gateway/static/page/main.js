/**
 * Where the page begins: what it shows is what its address says (`#/`, `#/?states=RUNNING`, `#/queues/<id>`), so that
 * links, bookmarks and the back button do what they do everywhere.
 */

import { byId, setAttribute, setText } from "./dom.js";
import { QueueList } from "./list.js";
import { passTime } from "./parts.js";
import { QueuePage } from "./queue.js";
import { StartDialog } from "./start.js";
import { StopDialog } from "./stop.js";

/** @type {Record<string, string>} */
const CONNECTIONS = {
  connecting: "connecting…",
  live: "live",
  slow: "slow…",
  reconnecting: "reconnecting…",
  paused: "paused",
  ended: "ended",
  gone: "not there",
};

/**
 * @param {string} state
 * @param {string} why
 */
function onConnection(state, why) {
  const place = byId("connection");
  setAttribute(place, "data-state", state);
  setAttribute(place, "title", why || null);
  setText(place, CONNECTIONS[state]);
}

const start = new StartDialog((queueId) => {
  location.hash = `#/queues/${encodeURIComponent(queueId)}`;
});
const stop = new StopDialog();
const list = new QueueList({ onConnection, onStart: () => start.open() });
const page = new QueuePage({ onConnection, onStop: (queue) => stop.open(queue) });

/** The queue whose page is shown; null: the list. @type {string | null} */
let shown = null;
/** Where the list was scrolled to when it was left. */
let scrolled = 0;

function route() {
  for (const dialog of document.querySelectorAll("dialog[open]")) /** @type {HTMLDialogElement} */ (dialog).close();
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  const match = /^\/queues\/([^/]+)$/.exec(path);
  const before = shown;
  shown = match ? decode(match[1]) : null;
  if (shown !== null) {
    if (before === null) scrolled = scrollY;
    list.close();
    page.open(shown, list.address);
    scrollTo(0, 0);
    page.focus();
    return;
  }
  page.close();
  list.open(new URLSearchParams(query));
  if (before !== null) {
    list.focus(before);
    scrollTo(0, scrolled);
  }
}

/**
 * @param {string} text
 */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a stray %
  }
}

byId("start-open").addEventListener("click", () => start.open());
byId("skip").addEventListener("click", (/** @type {Event} */ event) => {
  event.preventDefault(); // its fragment would be another address
  byId("main").focus();
});
addEventListener("hashchange", route);
setInterval(passTime, 1_000);
route();
