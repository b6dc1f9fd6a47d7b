// Shows the models of each provider in the last minute in a table, and who spends most.
import { setText } from '/shared/elements.js';
import { count, latency } from '/shared/numbers.js';
import { Table } from '/shared/tables.js';

const COLUMNS = [
  { title: 'Provider', of: ({ upstream }) => upstream },
  { title: 'Model', of: ({ model }) => model || '(none named)' },
  { title: 'Requests a minute', of: ({ last_minute: { requests } }) => count(requests) },
  {
    title: 'Errors',
    of: ({ last_minute: { errors } }) =>
      Object.entries(errors)
        .map(([what, number]) => `${count(number)} × ${what.replaceAll('_', ' ')}`)
        .join(', ') || '0',
    toneOf: ({ last_minute: { errors } }) => (Object.keys(errors).length > 0 ? 'bad' : ''),
  },
  {
    title: 'To the first token, p50 and p95',
    of: ({ last_minute: { first_token_p50_ms: p50, first_token_p95_ms: p95 } }) =>
      `${latency(p50)}, ${latency(p95)}`,
  },
  { title: 'Tokens a minute', of: ({ last_minute: { tokens } }) => count(tokens) },
  {
    title: 'USD a minute',
    of: ({ last_minute: { cost_usd: usd } }) => (usd === null ? 'no price' : dollars(usd)),
  },
  {
    title: 'In flight, waiting',
    of: ({ active_requests: active, waiting_requests: waiting }) => `${count(active)}, ${count(waiting)}`,
  },
  {
    title: 'Rests until',
    of: ({ cooldown_ends: end, cooldown_because: because }) =>
      end === null ? '–' : `${new Date(end).toLocaleTimeString('en-GB')} (${because})`,
    toneOf: ({ cooldown_ends: end }) => (end === null ? '' : 'bad'),
  },
];

function dollars(usd) {
  if (usd === 0) return '0';
  return usd < 0.01 ? Number(usd.toPrecision(2)).toFixed(9).replace(/0+$/, '') : usd.toFixed(2);
}

let table;

/** @param spending the paragraph of those who spend most */
export function showModels(box, spending, { models, spending: spent }) {
  table ??= new Table(box, {
    caption: 'The models of each provider in the last minute',
    columns: COLUMNS,
    empty: '',
  });
  table.show(models.map((row) => ({ ...row, id: `${row.upstream} ${row.model}` })));
  const most = [...(spent?.callers ?? []), ...(spent?.tasks ?? [])].filter(({ usd }) => usd > 0);
  spending.hidden = most.length === 0;
  setText(
    spending,
    `Spend most: ${most.map(({ name, usd }) => `${name || 'this agent'} ${dollars(usd)} USD`).join(', ')}`,
  );
}
