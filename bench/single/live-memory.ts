// `node bench/single/live-memory.ts [outrigger inbound | outrigger outbound]`: measures the memory that calls leave behind. After each part of a
// load as fast as it is answered, V8 is made to collect all that is dead; what stays is alive, or leaks.
import { inspectable, liveBytes } from '../../scripts/harness/live-memory.ts';
import { residentBytes } from '../../scripts/harness/memory.ts';
import { checkMachine } from '../measuring/machine.ts';
import { runTraffic, type Traffic } from '../traffic/run.ts';
import { Fleet, warmUp } from '../world/fleet.ts';
import { imageLaunch } from '../world/image.ts';
import { startTarget } from '../world/targets.ts';

const PARTS = 8;
const SECONDS = 10;
const MIB = 1 << 20;
const load: Traffic = {
  connections: 4,
  streams: 25,
  uniqueHeaders: 'literal',
  seconds: SECONDS,
  warmUpSeconds: 0,
};

checkMachine();
const names = process.argv.length > 2 ? process.argv.slice(2) : ['outrigger inbound', 'outrigger outbound'];
const fleet = await Fleet.start();
try {
  const { world } = fleet;
  for (const name of names) {
    const nodeArgs = [...imageLaunch().nodeArgs, inspectable.NODE_OPTIONS];
    const target = await startTarget(name, { ...world.setup, nodeArgs });
    const said = { logs: target.logs! };
    await warmUp(world, target, SECONDS);
    const first = await liveBytes(said);
    let calls = 0;
    console.log(`${name}: ${(first / MIB).toFixed(2)} MiB alive after ${SECONDS} s`);
    for (let part = 1; part <= PARTS; part++) {
      calls += (await runTraffic(world.cleanup, target, load)).calls;
      const live = await liveBytes(said);
      const resident = residentBytes(target.pids[0]!) / MIB;
      console.log(
        `  ${calls.toLocaleString('en-US').padStart(10)} calls later ${(live / MIB).toFixed(2)} MiB, ` +
          `${((live - first) / calls).toFixed(3)} bytes a call; resident ${resident.toFixed(1)} MiB`,
      );
    }
    await target.stop();
  }
} finally {
  await fleet.end();
}
