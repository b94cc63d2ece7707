/**
 * The document, changed as little as possible: what has not changed is not touched, so focus, selection and whoever
 * listens with a screen reader are left in peace. Data reaches the page as text and attributes only, never as markup.
 */

/**
 * An element by its id, which index.html has.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found;
}

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, string | null>} [attributes] null leaves one out
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * @param {Element} element
 * @param {string} value
 */
export function setText(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/**
 * @param {Element} element
 * @param {string} name
 * @param {string | null} value null removes it
 */
export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/**
 * @param {HTMLElement} element
 * @param {boolean} shown
 */
export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/**
 * Show a list of items as the children of an element, one each, known by their keys: those that stay are updated where
 * they are, and are moved only if their order has changed.
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => any} create
 * @param {(element: any, item: T) => void} update
 */
export function keyed(parent, items, keyOf, create, update) {
  const wanted = new Set(items.map(keyOf));
  /** @type {Map<string, Element>} */
  const present = new Map();
  for (const child of [...parent.children]) {
    const key = child.getAttribute("data-key");
    if (key === null) continue; // not of the list: a table's head
    if (wanted.has(key)) present.set(key, child);
    else child.remove();
  }
  let next = parent.querySelector(":scope > [data-key]");
  for (const item of items) {
    const key = keyOf(item);
    const element = present.get(key) ?? create(item);
    setAttribute(element, "data-key", key);
    if (element === next) next = element.nextElementSibling;
    else parent.insertBefore(element, next);
    update(element, item);
  }
}
