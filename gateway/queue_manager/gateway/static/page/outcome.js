/** What became of a call that a dialog made: an error with its violations, or good news. */

import { ApiError } from "./api.js";
import { h } from "./dom.js";
import { capitalized } from "./format.js";

/**
 * @param {Element} place
 * @param {...(Node | string)} content
 */
export function tell(place, ...content) {
  place.removeAttribute("data-kind");
  place.replaceChildren(...content);
  place.scrollIntoView({ block: "nearest" });
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
  if (!violations.length) {
    tell(place, h("p", {}, undecided && advice ? `${capitalized(error.message)}. ${advice}` : capitalized(error.message)));
    place.setAttribute("data-kind", "error");
    return;
  }
  const heading = violations.length === 1 ? "One thing is wrong with it:" : `${violations.length} things are wrong with it:`;
  const items = violations.map(({ field, description }) =>
    h("li", { "data-field": field }, ...(field ? [h("code", {}, field), " "] : []), description),
  );
  tell(place, h("p", {}, heading), h("ul", {}, ...items));
  place.setAttribute("data-kind", "error");
}
