// The table of bars: what was aimed at, what was measured, and whether it holds.
import { table } from '../tables.ts';
import type { Bar } from './bars.ts';
import { reasons } from './reasons.ts';

export function barsTable(all: readonly Bar[]): string {
  const rows = all.flatMap(({ name, limit, findings }) =>
    findings.length === 0
      ? [[name, limit, '', 'not measured', '']]
      : findings.map(({ of, text, holds }) => [name, limit, of, text, holds ? 'holds' : '**does not hold**']),
  );
  const lines = [
    '## Targets',
    '',
    'Ratios are medians of the ratios within each round, with the minimum and the maximum.',
    '',
    ...table(['', 'bar', 'of', 'measured', ''], rows),
  ];
  for (const { name, limit, findings } of all) {
    const reason = reasons[name];
    if (reason !== undefined && findings.some(({ holds }) => !holds))
      lines.push('', `**${name}, ${limit}**: ${reason}`);
  }
  return lines.join('\n');
}
