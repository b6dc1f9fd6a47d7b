// Shows the row of numbers at the top of a page.
import { element, setClass, setText, sync } from './elements.js';

/** @param figures [{ label, value, detail, tone }]; the detail is a short line below the number */
export function showFigures(list, figures) {
  sync(list, figures, ({ label }) => label, create, update);
}

function create({ label }) {
  const value = element('dd', 'value');
  const detail = element('dd', 'detail');
  const item = element('div', 'fact', element('dt', '', label), value, detail);
  item.parts = { value, detail };
  return item;
}

function update(item, { value, detail = '', tone = '' }) {
  setText(item.parts.value, value);
  setClass(item.parts.value, `value ${tone}`.trim());
  setText(item.parts.detail, detail);
}
