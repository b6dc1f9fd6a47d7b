// The end of a pod: the preStop hook sends callers away, the app goes on calling others, SIGTERM is the end.
import { spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { canConnect } from './support/net.ts';
import { runProcess, startProcess } from './support/process.ts';
import { RawClient } from './support/raw-grpc.ts';
import { type Sidecar, startSidecar } from './support/sidecar.ts';
import { untilLogged } from './support/until-logged.ts';
import { answerWith, startUpstream } from './support/upstream.ts';
import { waitUntil } from './support/wait-until.ts';

const root = join(import.meta.dirname, '..');

async function isReady(sidecar: Sidecar): Promise<boolean> {
  return (await fetch(`http://127.0.0.1:${sidecar.healthPort}/healthz/ready`)).ok;
}

const outrigger = (t: Parameters<typeof runProcess>[0], ...args: string[]) =>
  runProcess(t, process.execPath, [join(root, 'sidecar/main.ts'), ...args]);

t.test('after `outrigger drain` callers are sent away, and the app still calls others', async (t) => {
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

t.test(
  'the time of the hook is over: what is left is ended, and SIGTERM finds nothing to wait for',
  async (t) => {
    const app = await startUpstream(t, { onCall: () => {} });
    const sidecar = await startSidecar(t, { inbound: { app: app.address }, drain: { timeout: '300ms' } });
    const stuck = new RawClient(t, sidecar.inboundPort).unary(Buffer.from('x'));
    await waitUntil('the call has reached the app', () => app.calls.length === 1);
    await outrigger(t, 'drain', '--config', sidecar.configFile);
    t.match(await stuck, { code: 14 });
    t.equal(await canConnect(sidecar.adminPort), true, 'it is still there');
    sidecar.kill('SIGTERM');
    t.equal(await sidecar.ended, 0);
  },
);

t.test('without a sidecar the hook says so', async (t) => {
  const result = await outrigger(t, 'drain', '--admin.listen', '127.0.0.1:1');
  t.match(result, {
    code: 69,
    output: /127\.0\.0\.1:1 can't be asked \(.*ECONNREFUSED.*check admin\.listen/,
  });
});

/** Whether the process waits for somebody to write into the FIFO that it opens; false where the kernel does not tell. */
function opensFifo(pid: number): boolean {
  return readFileSync(`/proc/${pid}/wchan`, 'utf8') === 'wait_for_partner';
}

t.test(
  'SIGTERM during the start is not lost: it is heeded when there is something to end',
  { skip: process.platform === 'linux' ? false : 'without /proc' },
  async (t) => {
    // The first process of a container gets no signal that it has not asked for: one that came early would be lost, and
    // any other process would end by it. This start waits in its middle, in a file that nobody writes.
    const fifo = join(t.testdir(), 'outrigger.yaml');
    t.equal(spawnSync('mkfifo', [fifo]).status, 0);
    const waiting = startProcess(t, process.execPath, [
      join(root, 'sidecar/bin.mjs'),
      ...['run', '--config', fifo],
    ]);
    await waitUntil('it opens its configuration', () => opensFifo(waiting.pid));
    waiting.kill('SIGTERM');
    // Fails, rather than waits, while nobody reads: the signal interrupts the reader's open(2), which is then repeated.
    const writer = await waitUntil('it goes on with its start', () =>
      openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK),
    );
    t.teardown(() => closeSync(writer));
    t.equal(await waiting.ended, 64, 'it has gone on, and tells what is wrong with the file');
  },
);

t.test('a signal that was held ends the sidecar as soon as it runs', async (t) => {
  const held =
    'process.once("newListener", (name) => name === "SIGTERM" && setImmediate(() => process.kill(process.pid, name)))';
  const listeners = ['inbound', 'outbound', 'llm', 'admin', 'metrics', 'health'];
  const early = startProcess(t, process.execPath, [
    ...['--import', `data:text/javascript,${encodeURIComponent(held)}`, join(root, 'sidecar/bin.mjs'), 'run'],
    ...listeners.flatMap((name) => [`--${name}.listen`, '127.0.0.1:0']),
  ]);
  t.equal(await early.ended, 0);
  await untilLogged(t, early, /"draining; the same signal again/);
});
