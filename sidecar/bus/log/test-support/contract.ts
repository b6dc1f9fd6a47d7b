// The contract of a task log. Each engine's test calls it with a way to open its logs; each sentence of `task-log.ts` has
// its test here.
import type { Test } from 'tap';
import { PATIENCE_MS } from '../../../../scripts/harness/patience.ts';
import type { Cases } from './cases.ts';
import { type Engine, openerOf } from './logs.ts';
import { operating } from './operating.ts';
import { running } from './running.ts';
import { stopping } from './stopping.ts';
import { runningTakesNoRoom, submitting } from './submitting.ts';
import { taking } from './taking.ts';
import { waiting } from './waiting.ts';
import { watching } from './watching.ts';

/** Registers the tests of the contract for an engine. */
export function keepsContract(t: Test, engine: Engine): void {
  // Most of them wait for a lease or a signal most of the time.
  t.jobs = 8;
  t.setTimeout(5 * PATIENCE_MS);
  const room = engine.runningTakesRoom === true ? {} : runningTakesNoRoom;
  const all: Cases = {
    ...submitting,
    ...room,
    ...taking,
    ...running,
    ...watching,
    ...waiting,
    ...stopping,
    ...operating,
  };
  for (const [name, run] of Object.entries(all))
    t.test(`${engine.name}: ${name}`, async (t) => run(t, await openerOf(t, engine)));
}
