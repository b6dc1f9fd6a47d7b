// Builds and updates elements. It inserts strings as text, never as HTML: names come from the configuration, from callers
// and from peers.

const SVG = 'http://www.w3.org/2000/svg';

/** Makes an element with a class and children; strings become text. */
export function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

export function svg(name, attributes = {}) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Sets text only when it has changed, so that it does not disturb a selection or a screen reader. */
export function setText(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

/**
 * Makes a container show these items. It keeps and updates the elements of known items, with their focus.
 *
 * @param keyOf returns the key of an item
 * @param create makes the element of an item
 * @param update updates it
 */
export function sync(container, items, keyOf, create, update) {
  const old = container.shown ?? new Map();
  const shown = new Map();
  let place = container.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const node = old.get(key) ?? create(item);
    old.delete(key);
    shown.set(key, node);
    if (node === place) place = place.nextElementSibling;
    else container.insertBefore(node, place);
    update(node, item);
  }
  for (const node of old.values()) node.remove();
  container.shown = shown;
}

/** Makes a definition: a small label and its value. Returns the value's element for updates. */
export function figure(list, label) {
  const value = element('dd');
  list.append(element('div', '', element('dt', '', label), value));
  return value;
}

/** Sets a name as the text of a node, with line-break opportunities after dots, slashes and colons. */
export function breakable(node, text) {
  if (node.shownText === text) return;
  node.shownText = text;
  node.replaceChildren();
  for (const part of text.split(/(?<=[./:])/)) node.append(part, element('wbr'));
}
