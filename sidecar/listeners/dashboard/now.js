// Shows "Now": the sidecar's findings, unchanged. The page adds no judgement of its own.
import { element, setClass, setText, sync } from '/shared/elements.js';
import { count, span, timeOf } from '/shared/numbers.js';
import { named } from './peers.js';

/**
 * @param list shows each finding with its numbers, which change often
 * @param said has the sentences alone, which change rarely; screen readers announce its changes
 */
export function showNow(list, said, { well, summary, detail, findings, left_out: leftOut }) {
  const items =
    findings.length === 0
      ? [{ id: 'well', severity: well ? 'good' : 'warn', text: summary, detail }]
      : findings.map((finding) => ({ ...finding, text: named(finding.text), detail: detailOf(finding) }));
  if (leftOut > 0)
    items.push({ id: 'more', severity: 'warn', text: `and ${count(leftOut)} more.`, detail: '' });
  sync(list, items, ({ id }) => id, create, update);
  setText(said, items.map(({ text }) => text).join(' '));
}

function detailOf({ detail, since, lasts_ms: lastsMs }) {
  const when = `since ${timeOf(new Date(since))}, for ${span(lastsMs / 1000)}`;
  return detail === '' ? when : `${detail} · ${when}`;
}

function create() {
  const text = element('span', 'what');
  const detail = element('span', 'numbers');
  const item = element('li', '', element('span', 'says', text, detail));
  item.parts = { text, detail };
  return item;
}

function update(item, { severity, text, detail }) {
  setClass(item, `matter ${severity}`);
  setText(item.parts.text, text);
  setText(item.parts.detail, detail);
  item.parts.detail.hidden = detail === '';
}
