// Kills a replica of every service of a layout with -9, again and again, under a load of tasks, and holds that none is lost:
//     npm run test:layouts -- [--layout agents|capabilities|domains] [--rounds 5] [--tasks 8]
// Without --layout it does so for each of them. In a round each replica is killed once, with so many new tasks on their way.
import { parseArgs } from 'node:util';
import { layouts } from '../agents/local/layouts/all.ts';
import { killUnderLoad, layoutOf, startLayout } from './support/layouts.ts';

const { values } = parseArgs({
  options: {
    layout: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    tasks: { type: 'string', default: '8' },
  },
});
const chosen = values.layout === undefined ? layouts : [layoutOf(values.layout)];
for (const { name } of chosen) {
  const ends: (() => unknown)[] = [];
  try {
    const system = await startLayout({ teardown: (end: () => unknown) => void ends.unshift(end) }, name);
    const { replicas, llm } = await system.state();
    const all = [...replicas, ...llm].map((one) => one.name);
    let [kills, tasks, lost] = [0, 0, 0];
    for (let round = 0; round < Number(values.rounds); round++) {
      // Each round begins with another one.
      const victims = all.map((_, at) => all[(at + round) % all.length]!);
      const done = await killUnderLoad(system, victims, Number(values.tasks));
      for (const complaint of done.complaints) console.error(`${name}: ${complaint}`);
      kills += done.killed.length;
      tasks += done.tasks;
      lost += done.complaints.length;
    }
    console.log(`${name}: ${kills} kills of ${all.join(', ')}; ${tasks} tasks, ${lost} complaints`);
    if (lost > 0) process.exitCode = 1;
  } finally {
    for (const end of ends) await end();
  }
}
process.exit();
