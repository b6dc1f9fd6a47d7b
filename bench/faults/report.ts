// Both proxies under each fault, side by side.
import type { Row } from '../../scripts/harness/faults/row.ts';
import { LEGEND, markdown, tableOf } from '../../scripts/harness/faults/table.ts';

export interface FaultReport {
  readonly at: string;
  /** Load average of the machine before it began. */
  readonly loadBefore: number;
  readonly faults: ({ proxy: string } & Row)[];
  /** Found, by the proxy's name. */
  readonly comparisons: { name: string; found: Record<string, string> }[];
  /** What could not be measured, and why. */
  readonly failed: string[];
}

export function reportOf({ at, loadBefore, faults, comparisons, failed }: FaultReport): string {
  const proxies = [...new Set(comparisons.flatMap(({ found }) => Object.keys(found)))];
  const lines = faults.map((row, index): [string[], Row] => [
    [row.fault === faults[index - 1]?.fault ? '' : row.fault, row.proxy],
    row,
  ]);
  const parts = [
    '# The same faults through Envoy and through Outrigger',
    `Measured ${at}; load average before ${loadBefore.toFixed(2)}. Made by \`npm run bench:faults\`.`,
    tableOf(['fault', 'proxy'], lines),
    `${LEGEND}`,
    ...(comparisons.length === 0
      ? []
      : [
          markdown(
            ['measured', ...proxies],
            comparisons.map(({ name, found }) => [name, ...proxies.map((proxy) => found[proxy] ?? '')]),
          ),
        ]),
    ...failed.map((message) => `Not measured: ${message}`),
  ];
  return `${parts.join('\n\n')}\n`;
}
