// The end of a pod: the preStop hook sends callers away, the app goes on calling others, SIGTERM is the end.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { canConnect } from '../scripts/harness/net.ts';
import { runProcess, startProcess } from '../scripts/harness/process.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { untilLogged } from './support/until-logged.ts';
import { answerWith, startUpstream } from './support/upstream.ts';

const root = join(import.meta.dirname, '..');

async function isReady(sidecar: Sidecar): Promise<boolean> {
  return (await fetch(`http://127.0.0.1:${sidecar.healthPort}/healthz/ready`)).ok;
}

const outrigger = (t: Parameters<typeof runProcess>[0], ...args: string[]) =>
  runProcess(t, process.execPath, [join(root, 'sidecar/main.ts'), ...args]);

t.test('after `outrigger drain` callers get GOAWAY, and the app still calls others', async (t) => {
  const app = await startUpstream(t, { onCall: () => {} });
  const other = await startUpstream(t, { name: 'other' });
  const sidecar = await startSidecar(t, {
    inbound: { app: app.address },
    outbound: { routes: [{ cluster: 'other' }], clusters: { other: { endpoints: [other.address] } } },
    drain: { timeout: '60s' },
  });
  const inFlight = new RawClient(t, sidecar.inboundPort).unary(Buffer.from('x'));
  const call = await waitUntil('the call has reached the app', () => app.calls[0]);

  const hook = await outrigger(t, 'drain', '--config', sidecar.configFile);
  t.match(hook, { code: 0, output: '' });
  t.equal(await isReady(sidecar), false);
  await waitUntil('it takes no more connections', async () => !(await canConnect(sidecar.inboundPort)));
  const outbound = new RawClient(t, sidecar.outboundPort);
  t.match(await outbound.unary(Buffer.from('y')), { code: 0 }, 'while the call runs');
  answerWith(call.stream, 'done');
  t.match(await inFlight, { code: 0 }, 'what was in flight is answered');
  t.match(await outbound.unary(Buffer.from('z')), { code: 0 }, 'and also when no caller is left');
  t.match(await outrigger(t, 'drain', '--config', sidecar.configFile), { code: 0 }, 'twice is once');

  outbound.client.close();
  sidecar.kill('SIGTERM');
  t.equal(await sidecar.ended, 0);
});

t.test("after the hook's time the rest ends, and SIGTERM has nothing to wait for", async (t) => {
  const app = await startUpstream(t, { onCall: () => {} });
  const sidecar = await startSidecar(t, { inbound: { app: app.address }, drain: { timeout: '300ms' } });
  const stuck = new RawClient(t, sidecar.inboundPort).unary(Buffer.from('x'));
  await waitUntil('the call has reached the app', () => app.calls.length === 1);
  await outrigger(t, 'drain', '--config', sidecar.configFile);
  t.match(await stuck, { code: 14 });
  t.equal(await canConnect(sidecar.adminPort), true, 'it is still there');
  sidecar.kill('SIGTERM');
  t.equal(await sidecar.ended, 0);
});

t.test('without a sidecar the hook reports that', async (t) => {
  const result = await outrigger(t, 'drain', '--admin.listen', '127.0.0.1:1');
  t.match(result, {
    code: 69,
    output: /can't reach 127\.0\.0\.1:1 \(.*ECONNREFUSED.*check admin\.listen/,
  });
});

/** Stops a start as soon as it has asked for SIGTERM, until there is a file. */
function stopUntil(file: string): string {
  const script = `
    import { existsSync, writeSync } from 'node:fs';
    const stop = () => {
      writeSync(1, 'stopped in its start');
      const memory = new Int32Array(new SharedArrayBuffer(4));
      while (!existsSync(${JSON.stringify(file)})) Atomics.wait(memory, 0, 0, 10);
    };
    process.on('newListener', function once(name) {
      if (name !== 'SIGTERM') return;
      process.removeListener('newListener', once);
      setImmediate(stop);
    });`;
  return `data:text/javascript,${encodeURIComponent(script)}`;
}

t.test('SIGTERM during the start takes effect when the sidecar runs', async (t) => {
  // The first process of a container gets no signal that it has not asked for: one that came early would be lost, and
  // any other process would end by it.
  const file = join(t.testdir(), 'go-on');
  const waiting = startProcess(t, process.execPath, [
    ...['--import', stopUntil(file), join(root, 'sidecar/bin.mjs')],
    ...['run', '--config', join(file, 'is-no-folder.yaml')],
  ]);
  await untilLogged(t, waiting, /stopped in its start/);
  waiting.kill('SIGTERM');
  writeFileSync(file, '');
  t.equal(await waiting.ended, 64, 'it has gone on, and tells what is wrong with the file');
});

t.test('a held signal ends the sidecar as soon as it runs', async (t) => {
  const held =
    'process.once("newListener", (name) => name === "SIGTERM" && setImmediate(() => process.kill(process.pid, name)))';
  const listeners = ['inbound', 'outbound', 'llm', 'admin', 'metrics', 'health'];
  const early = startProcess(t, process.execPath, [
    ...['--import', `data:text/javascript,${encodeURIComponent(held)}`, join(root, 'sidecar/bin.mjs'), 'run'],
    ...listeners.flatMap((name) => [`--${name}.listen`, '127.0.0.1:0']),
  ]);
  t.equal(await early.ended, 0);
  await untilLogged(t, early, /"draining; a second signal ends/);
});
