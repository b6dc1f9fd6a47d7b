// Kills the agents of tasks with -9 at random moments, and holds that the journal lets nothing be paid twice:
//     npm run test:journal -- --kills 50 [--order chain|parallel] [--bus file|nats] [--seed N]
// Without --order and --bus it takes both orders, on both kinds of bus.
import { parseArgs } from 'node:util';
import { startNats } from '../sidecar/bus/nats/test-support/nats-server.ts';
import { complaintsAbout, killAgents } from './support/journal-kills.ts';

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '50' },
    order: { type: 'string' },
    bus: { type: 'string' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});
const seed = Number(values.seed);
console.log(`seed ${seed}`);
const orders = (['chain', 'parallel'] as const).filter(
  (order) => values.order === undefined || order === values.order,
);
const buses = ['file', 'nats'].filter((bus) => values.bus === undefined || bus === values.bus);

for (const bus of buses)
  for (const order of orders) {
    const ends: (() => unknown)[] = [];
    const owner = { teardown: (end: () => unknown) => void ends.unshift(end) };
    try {
      const server = bus === 'nats' ? await startNats(owner) : undefined;
      const tasks = await killAgents(owner, {
        kills: Number(values.kills),
        order,
        seed,
        ...(server === undefined ? {} : { bus: `nats://${server.address}` }),
        onProgress: (text) => console.log(`${(performance.now() / 1_000).toFixed(1)} s: ${text}`),
      });
      const complaints = complaintsAbout(tasks, order);
      const paid = tasks.map((task) => task.paid);
      const mean = paid.reduce((sum, one) => sum + one, 0) / paid.length;
      console.log(
        `${bus}, ${order}: ${tasks.length} kills; calls paid a task: ${mean.toFixed(2)} on average, ${Math.max(...paid)} at most; ` +
          `answers that came back: ${tasks.reduce((sum, task) => sum + task.answered - task.lost, 0)} of ${tasks.reduce((sum, task) => sum + task.answered, 0)}`,
      );
      for (const complaint of complaints) console.error(complaint);
      if (complaints.length > 0) process.exitCode = 1;
    } finally {
      for (const end of ends) await end();
    }
  }
