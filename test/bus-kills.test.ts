// Tasks of the bus survive agents and sidecars that are killed at random; `npm run test:bus` does it at length.
import t from 'tap';
import { runUnderKills } from './support/bus-kills.ts';

t.setTimeout(280_000);

t.test('every task ends in one result, and only what was in flight at a kill runs again', async (t) => {
  const report = await runUnderKills(t, { tasks: 200, kills: 4, seed: 7, pods: 2, workMs: 50 });
  t.equal(report.settled, 200);
  t.equal(report.dead, 0);
  t.ok(report.runs <= 200 + report.inFlight, `${report.runs} runs, ${report.inFlight} in flight`);
  t.ok(report.kills.agent > 0 && report.kills.sidecar > 0, 'it killed both kinds');
});
