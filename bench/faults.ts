// `npm run bench:faults -- [--only TEXT]`: the fault suite's scenarios through Envoy and through Outrigger.
import { mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { comparisons } from '../scripts/harness/faults/comparisons.ts';
import { compare, measure } from '../scripts/harness/faults/measured.ts';
import { Fleet } from '../scripts/harness/faults/mesh.ts';
import { outrigger } from '../scripts/harness/faults/outrigger.ts';
import type { ProxyKind } from '../scripts/harness/faults/proxy.ts';
import type { Row } from '../scripts/harness/faults/row.ts';
import { scenarios } from '../scripts/harness/faults/scenarios.ts';
import { skipWithout } from '../scripts/harness/tool.ts';
import { envoy } from './faults/envoy.ts';
import { type FaultReport, reportOf } from './faults/report.ts';
import { Cleanup } from './world/cleanup.ts';

const { values } = parseArgs({ options: { only: { type: 'string', default: '' } } });

const missing = skipWithout('envoy');
if (missing !== false) console.error(`bench: ${missing}`);
const kinds: ProxyKind[] = missing === false ? [envoy, outrigger] : [outrigger];
const report: FaultReport = {
  at: new Date().toISOString(),
  loadBefore: loadavg()[0]!,
  faults: [],
  comparisons: [],
  failed: [],
};

const all = new Cleanup();
try {
  const fleets = kinds.map((kind) => new Fleet(all, kind));
  const wanted = ({ name }: { name: string }): boolean => name.includes(values.only);
  // Both proxies get one fault before the next, so that other work on the machine disturbs both alike.
  for (const scenario of scenarios.filter(wanted)) {
    for (const fleet of fleets) {
      const row = await attempt(fleet, scenario.name, (cleanup) => measure(scenario, fleet, cleanup));
      if (row !== undefined) report.faults.push({ proxy: fleet.kind.name, ...row });
    }
  }
  for (const comparison of comparisons.filter(wanted)) {
    const found: Record<string, string> = {};
    for (const fleet of fleets) {
      const result = await attempt(fleet, comparison.name, (cleanup) => compare(comparison, fleet, cleanup));
      found[fleet.kind.name] = result?.found ?? 'not measured';
    }
    report.comparisons.push({ name: comparison.name, found });
  }
} finally {
  await all.run();
}

const text = reportOf(report);
console.log(`\n${text}`);
// A partial run shows a tendency; only a full one replaces the figures that the docs cite.
const name = values.only === '' ? 'faults' : 'faults.quick';
const folder = join(import.meta.dirname, 'results');
mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(report, null, 2)}\n`);
writeFileSync(join(folder, `${name}.md`), text);
console.log(`written to bench/results/${name}.json and .md`);
process.exit(report.failed.length === 0 ? 0 : 1);

/** The report names a scenario that fails, and the other scenarios go on. */
async function attempt<T extends Partial<Row> | { found: string }>(
  fleet: Fleet,
  what: string,
  run: (cleanup: Cleanup) => Promise<T>,
): Promise<T | undefined> {
  const cleanup = new Cleanup();
  const startedMs = Date.now();
  try {
    const result = await run(cleanup);
    console.log(`${fleet.kind.name}: ${what} (${Math.round((Date.now() - startedMs) / 100) / 10} s)`);
    return result;
  } catch (error) {
    const message = `${fleet.kind.name}: ${what}: ${(error as Error).message}`;
    console.error(message);
    report.failed.push(message);
    return undefined;
  } finally {
    await cleanup.run();
  }
}
