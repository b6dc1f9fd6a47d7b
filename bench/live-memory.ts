// `node bench/live-memory.ts [outrigger inbound | outrigger outbound]`: what calls leave behind. After each part of a
// load as fast as it is answered, V8 is made to collect all that is dead; what stays is alive, or leaks.
import { residentBytes } from '../test/support/memory.ts';
import { Fleet, warmUp } from './fleet.ts';
import { checkMachine } from './machine.ts';
import { inspector } from './profile/inspector.ts';
import { startTarget } from './targets.ts';
import { runTraffic } from './traffic/run.ts';

const PARTS = 8;
const SECONDS = 10;
const MIB = 1 << 20;

checkMachine();
const names = process.argv.length > 2 ? process.argv.slice(2) : ['outrigger inbound', 'outrigger outbound'];
const fleet = await Fleet.start();
try {
  const { world } = fleet;
  for (const name of names) {
    const { flag, open } = await inspector();
    const target = await startTarget(name, {
      ...world.setup,
      nodeArgs: [flag, '--max-semi-space-size=4'],
    });
    await warmUp(world, target, SECONDS);
    const profiler = await open();
    const first = await profiler.liveBytes();
    let calls = 0;
    console.log(`${name}: ${(first / MIB).toFixed(2)} MiB alive after ${SECONDS} s`);
    for (let part = 1; part <= PARTS; part++) {
      const load = { connections: 4, streams: 25, seconds: SECONDS, warmUpSeconds: 0 };
      calls += (await runTraffic(world.cleanup, target, { ...load, uniqueHeaders: 'literal' })).calls;
      const live = await profiler.liveBytes();
      const resident = residentBytes(target.pids[0]!) / MIB;
      console.log(
        `  ${calls.toLocaleString('en-US').padStart(10)} calls later ${(live / MIB).toFixed(2)} MiB, ` +
          `${((live - first) / calls).toFixed(3)} bytes a call; resident ${resident.toFixed(1)} MiB`,
      );
    }
    profiler.close();
    await target.stop();
  }
} finally {
  await fleet.end();
}
