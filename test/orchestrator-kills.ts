// Kills an orchestrator with -9 at many points of its tasks, and holds that each gives the same answer and runs no finished step again:
//     npm run test:orchestrator -- [--kills 20] [--seed N]
// Each kill is done twice: once with the agent alone, once with its sidecar.
import { parseArgs } from 'node:util';
import type { Test } from 'tap';
import { complaintsAbout, startKillScene } from './support/orchestrator-kills.ts';

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '20' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});
const seed = Number(values.seed);
console.log(`seed ${seed}`);
const ends: (() => unknown)[] = [];
const owner = { teardown: (end: () => unknown) => void ends.unshift(end) } as unknown as Test;
try {
  const scene = await startKillScene(owner, { seed });
  const undisturbed = await scene.run({ point: 0, afterMs: 0, withSidecar: false, varies: false });
  const whole = undisturbed.answer.output;
  let killed = 0;
  for (const withSidecar of [false, true])
    for (let kill = 0; kill < Number(values.kills); kill++) {
      // A plan has some twelve events; what is above falls between two of them.
      const point = 1 + (kill % 12);
      const task = await scene.run({
        point,
        afterMs: kill < 12 ? 0 : 20,
        withSidecar,
        varies: kill % 3 !== 0,
      });
      if (task.event !== '') killed++;
      const what = `${withSidecar ? 'with' : 'without'} its sidecar, after "${task.event}"`;
      console.log(
        `${what}: ${task.runs} runs, the model answered ${task.planned} times, ${task.steps.size} steps`,
      );
      const complaints = complaintsAbout(task, whole);
      for (const complaint of complaints) console.error(complaint);
      if (complaints.length > 0) process.exitCode = 1;
    }
  console.log(`${killed} kills`);
} finally {
  for (const end of ends) await end();
}
