/** What became of a call that a dialog made: an error with its violations, or good news. */

import { ApiError } from "./api.js";
import { h } from "./dom.js";

/**
 * @param {Element} place
 * @param {...(Node | string)} content
 */
export function tell(place, ...content) {
  place.removeAttribute("data-kind");
  place.replaceChildren(...content);
}

/**
 * @param {Element} place
 * @param {unknown} error
 * @param {string} [advice] what to do if it is not known whether the call was carried out
 */
export function tellError(place, error, advice = "") {
  if (!(error instanceof Error)) throw error;
  const violations = error instanceof ApiError ? error.violations : [];
  const undecided = error instanceof ApiError && error.undecided;
  place.setAttribute("data-kind", "error");
  if (!violations.length) {
    place.replaceChildren(h("p", {}, undecided && advice ? `${error.message}. ${advice}` : error.message));
    return;
  }
  const heading = violations.length === 1 ? "One thing is wrong with it:" : `${violations.length} things are wrong with it:`;
  const items = violations.map(({ field, description }) =>
    h("li", { "data-field": field }, ...(field ? [h("code", {}, field), " "] : []), description),
  );
  place.replaceChildren(h("p", {}, heading), h("ul", { class: "violations" }, ...items));
}
