// Runs tasks of the bus while their agents and sidecars are killed with -9 at random, and holds what it promises:
//     npm run test:bus -- --tasks 10000 --kills 200 [--bus nats] [--seed N] [--pods 3] [--places 8] [--work 20]
// The bus is a file, or a NATS server of its own, which is killed as well.
import { parseArgs } from 'node:util';
import { startNats } from '../sidecar/bus/nats/test-support/nats-server.ts';
import { type KillOptions, runUnderKills } from './support/bus-kills.ts';

const number = (text: string): number => Number(text);
const { values } = parseArgs({
  options: {
    tasks: { type: 'string', default: '10000' },
    kills: { type: 'string', default: '200' },
    bus: { type: 'string', default: 'file' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    pods: { type: 'string', default: '3' },
    places: { type: 'string', default: '8' },
    work: { type: 'string', default: '20' },
  },
});
const ends: (() => unknown)[] = [];
const owner = { teardown: (end: () => unknown) => void ends.unshift(end) };
const seed = number(values.seed);
console.log(`seed ${seed}`);

async function natsToKill(): Promise<KillOptions['bus']> {
  const server = await startNats(owner);
  return {
    url: `nats://${server.address}`,
    async kill() {
      await server.kill();
      await server.restart();
    },
  };
}

try {
  const bus = values.bus === 'nats' ? await natsToKill() : undefined;
  const report = await runUnderKills(owner, {
    ...(bus === undefined ? {} : { bus }),
    tasks: number(values.tasks),
    kills: number(values.kills),
    seed,
    pods: number(values.pods),
    places: number(values.places),
    workMs: number(values.work),
    onProgress: (text) => console.log(text),
  });
  console.log(JSON.stringify(report, null, 2));
  const complaints = [
    report.settled !== report.tasks && 'not every task has its result',
    report.dead > 0 && 'tasks are dead',
    report.runs > report.tasks + report.inFlight && 'more runs than tasks and what was in flight',
  ].filter((complaint) => complaint !== false);
  for (const complaint of complaints) console.error(complaint);
  process.exitCode = complaints.length === 0 ? 0 : 1;
} finally {
  for (const end of ends) await end();
}
