// Builds and updates elements. Text is always put in as text, never as HTML: names come from the configuration,
// from callers and from peers.

const SVG = 'http://www.w3.org/2000/svg';

/** An element with a class and children; strings become text. */
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

/** Sets text only where it has changed, so that a selection and a screen reader are left in peace. */
export function setText(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

/**
 * Makes a container show these items: what is there stays there, with its focus, and is brought up to date.
 *
 * @param keyOf what an item is known by
 * @param create makes the element of an item
 * @param update brings it up to date
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

/** A definition: a small label and its value, whose element is given back to be updated. */
export function figure(list, label) {
  const value = element('dd');
  list.append(element('div', '', element('dt', '', label), value));
  return value;
}

/** A name with places where it may be broken: after dots, slashes and colons. */
export function breakable(node, text) {
  if (node.shownText === text) return;
  node.shownText = text;
  node.replaceChildren();
  for (const part of text.split(/(?<=[./:])/)) node.append(part, element('wbr'));
}
