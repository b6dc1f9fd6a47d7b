// Runs tasks of the bus while their agents and sidecars are killed with -9 at random, and holds what it promises:
//     npm run test:bus -- --tasks 10000 --kills 200 [--bus nats] [--seed N] [--pods 3] [--places 8] [--work 20]
// The bus is a file, or a NATS server of its own, which is killed as well. Or runs one task of so many seconds with a lease
// of 15 s, which must run once:
//     npm run test:bus -- --long 600 [--bus nats]
import { parseArgs } from 'node:util';
import { type NatsServer, startNats } from '../sidecar/bus/nats/test-support/nats-server.ts';
import { type KillOptions, runUnderKills } from './support/bus-kills.ts';
import { runLong } from './support/bus-long.ts';

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
    long: { type: 'string' },
  },
});
const ends: (() => unknown)[] = [];
const owner = { teardown: (end: () => unknown) => void ends.unshift(end) };

function busToKill(server: NatsServer): KillOptions['bus'] {
  return {
    url: urlOf(server),
    async kill() {
      await server.kill();
      await server.restart();
    },
  };
}

const urlOf = ({ address }: NatsServer): string => `nats://${address}`;

/** Returns what is wrong. */
async function underKills(server: NatsServer | undefined): Promise<string[]> {
  const seed = number(values.seed);
  console.log(`seed ${seed}`);
  const report = await runUnderKills(owner, {
    ...(server === undefined ? {} : { bus: busToKill(server)! }),
    tasks: number(values.tasks),
    kills: number(values.kills),
    seed,
    pods: number(values.pods),
    places: number(values.places),
    workMs: number(values.work),
    onProgress: (text) => console.log(text),
  });
  console.log(JSON.stringify(report, null, 2));
  return [
    report.settled !== report.tasks && 'not every task has its result',
    report.dead > 0 && 'tasks are dead',
    report.runs > report.tasks + report.inFlight && 'more runs than tasks and what was in flight',
  ].filter((complaint) => complaint !== false);
}

async function longTask(server: NatsServer | undefined, seconds: number): Promise<string[]> {
  const report = await runLong(owner, { seconds, ...(server === undefined ? {} : { url: urlOf(server) }) });
  console.log(JSON.stringify(report, null, 2));
  return [
    report.state !== 'done' && `the task is ${report.state}`,
    report.runs !== 1 && `it ran ${report.runs} times`,
  ].filter((complaint) => complaint !== false);
}

try {
  const server = values.bus === 'nats' ? await startNats(owner) : undefined;
  const complaints = await (values.long === undefined
    ? underKills(server)
    : longTask(server, number(values.long)));
  for (const complaint of complaints) console.error(complaint);
  process.exitCode = complaints.length === 0 ? 0 : 1;
} finally {
  for (const end of ends) await end();
}
