// How each failure ends for tasks of a bus on NATS: those that end the agents' side, those that end the server, and those
// between.
import t from 'tap';
import { skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { startNats } from '../sidecar/bus/nats/test-support/nats-server.ts';
import { crashesBehindResult, endWell, startFaultScene } from './support/bus-faults.ts';
import { startCutter } from './support/cutter.ts';

t.setTimeout(280_000);
// Most of them wait most of the time.
t.jobs = 3;

const skip = skipWithout('nats-server');

if (skip !== false) t.pass(skip, { skip });
else {
  endWell(t, async (t) => `nats://${(await startNats(t)).address}`);

  t.test('a crash between result and acknowledgement loses nothing, and nothing runs twice', async (t) => {
    const server = await startNats(t);
    const cutter = await startCutter(t, server.port);
    cutter.muteBehind = '"state":"done"';
    const urls = { url: `nats://${server.address}`, doomed: `nats://${cutter.address}` };
    await crashesBehindResult(t, urls, async (submitter, key) => {
      await submitter.isIn('done', key);
      t.equal(cutter.muted, 1, 'its acknowledgement does not come through');
    });
  });

  t.test(
    'a bus that is killed and is back within the lease loses nothing, and nothing runs twice',
    async (t) => {
      const server = await startNats(t);
      const scene = await startFaultScene(t, `nats://${server.address}`);
      await scene.pod({ consume: { places: 2 } });
      const keys = await scene.submit(6, 'sleep 500');
      await scene.begun(2);
      await server.kill();
      await server.restart();
      const records = await scene.done(keys);
      t.ok(records.every(({ lostRuns }) => lostRuns === 0));
      t.equal(scene.diary.count('begin'), 6);
    },
  );

  t.test(
    'a bus that is gone for longer cancels what runs, which runs once more when it is back',
    async (t) => {
      const server = await startNats(t);
      const scene = await startFaultScene(t, `nats://${server.address}`);
      await scene.pod({ consume: { places: 2, lease: '2s' } });
      const keys = await scene.submit(2, 'sleep 6000');
      await scene.begun(2);
      await server.kill();
      await waitUntil('the agents are cancelled', () => scene.diary.count('cancelled') === 2);
      await server.restart();
      await scene.done(keys);
      t.equal(scene.diary.count('begin'), 4);
    },
  );

  t.test(
    'a sidecar that is cut off from the bus cancels its agent, and another sidecar runs the task',
    async (t) => {
      const server = await startNats(t);
      const cutter = await startCutter(t, server.port);
      const scene = await startFaultScene(t, `nats://${server.address}`);
      await scene.pod({ url: `nats://${cutter.address}`, consume: { places: 1, lease: '2s' } });
      const keys = await scene.submit(1, 'sleep 5000');
      await scene.begun(1);
      const drops = setInterval(() => cutter.drop(), 5);
      t.teardown(() => clearInterval(drops));
      await waitUntil('the agent is cancelled', () => scene.diary.count('cancelled') === 1);
      await scene.pod({ consume: { places: 1 } });
      const [record] = await scene.done(keys);
      t.equal(record!.run, 2);
    },
  );
}
