// Callers and agents that compress: grpc-js and grpcio, by gzip and deflate, are understood as those that do not.
import { join } from 'node:path';
import { deflateSync, gzipSync } from 'node:zlib';
import * as grpc from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { startDataPlane } from '../scripts/harness/data-plane.ts';
import { runProcess, startProcess } from '../scripts/harness/process.ts';
import { RawClient, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { PROCESS_TASK_PATH } from '../sidecar/task/task-message.ts';
import { startReplica } from './support/answers.ts';
import { grpcFrame, startUpstream, taskRequest } from './support/upstream.ts';

t.setTimeout(290_000);

const python = join(import.meta.dirname, 'support', 'python');
const skip = skipWithout('python');
/** Of `grpc.default_compression_algorithm`. */
const algorithms = { gzip: grpc.compressionAlgorithms.gzip, deflate: grpc.compressionAlgorithms.deflate };
type Algorithm = keyof typeof algorithms;
const FAILED = 2;
const packed = { gzip: gzipSync, deflate: deflateSync };

const longInput = 'a question, and again a question '.repeat(30);

async function startTyped(t: Test) {
  const code = await startUpstream(t, { name: 'code' });
  const rest = await startUpstream(t, { name: 'rest' });
  const plane = await startDataPlane(t, {
    outbound: {
      routes: [
        { match: { agent_type: 'code' }, cluster: 'code' },
        { match: {}, cluster: 'rest' },
      ],
      clusters: { code: { endpoints: [code.address] }, rest: { endpoints: [rest.address] } },
    },
  });
  return { plane, code, rest };
}

for (const algorithm of ['gzip', 'deflate'] as const) {
  t.test(`a task that grpc-js compresses with ${algorithm} reaches its agent`, async (t) => {
    const { plane, code, rest } = await startTyped(t);
    const client = new RawClient(t, plane.outboundPort, {
      'grpc.default_compression_algorithm': algorithms[algorithm],
    });
    for (const type of ['code', 'poetry', '']) {
      const task = taskRequest({ id: type, type, input: longInput });
      const { code: status, response } = await client.unary(task, { path: PROCESS_TASK_PATH });
      t.equal(status, grpc.status.OK);
      t.equal(String(response), type === 'code' ? 'code' : 'rest', type);
    }
    t.strictSame([code.calls.length, rest.calls.length], [1, 2]);
    for (const { body, headers } of [...code.calls, ...rest.calls]) {
      t.equal(headers['grpc-encoding'], algorithm);
      t.equal(body[0], 1, 'it was passed on as it came');
      t.ok(body.length < 200);
    }
  });

  t.test(`a task that grpcio compresses with ${algorithm} reaches its agent`, { skip }, async (t) => {
    const { plane, code, rest } = await startTyped(t);
    for (const type of ['code', 'poetry']) {
      const args = [join(python, 'compressing_client.py'), String(plane.outboundPort), algorithm, type, '2'];
      await runProcess(t, requireTool('python'), args);
    }
    t.strictSame([code.calls.length, rest.calls.length], [2, 2]);
    for (const { body } of [...code.calls, ...rest.calls]) t.equal(body[0], 1, 'compressed');
  });
}

/** Calls of 40 in turn that reached the replica which answers FAILED; the other one answers SUCCESS. */
async function reachFailing(t: Test, failing: string, good: string): Promise<number> {
  const plane = await startDataPlane(t, {
    outbound: {
      clusters: {
        agents: { endpoints: [failing, good], balancer: 'round_robin', retry: { max_attempts: 1 } },
      },
    },
  });
  const client = new RawClient(t, plane.outboundPort, { 'grpc.default_authority': 'agents' });
  for (let n = 0; n < 40; n++) {
    const task = taskRequest({ id: `task ${n}`, input: longInput });
    t.equal((await client.unary(task, { path: PROCESS_TASK_PATH })).code, grpc.status.OK);
  }
  const { endpoints } = plane.sidecar.outbound.clusters.clusters.get('agents')!;
  const { watched, attemptsByStatus } = endpoints.find(({ address }) => address === failing)!;
  t.equal(watched.ejected, true, 'it is out');
  return attemptsByStatus[0]!;
}

/** An agent whose tasks all end so, with an answer that is compressed: grpc-js has no server that would. */
async function startAgent(t: Test, status: number, pack?: (bytes: Buffer) => Buffer, encoding = 'identity') {
  const output = Buffer.from('what it said, and said again '.repeat(20));
  const answer = Buffer.concat([
    Buffer.from([0x12, 0x80 | (output.length & 0x7f), output.length >> 7]),
    output,
    Buffer.from([0x18, status, 0x20, 7]),
  ]);
  const message = grpcFrame(pack?.(answer) ?? answer);
  if (pack !== undefined) message[0] = 1;
  const replica = await startReplica(t, (stream) => {
    const head = { ':status': 200, 'content-type': 'application/grpc', 'grpc-encoding': encoding };
    stream.respond(head, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    // In pieces, as large answers come.
    for (const byte of message.subarray(0, 20)) stream.write(Buffer.from([byte]));
    stream.end(message.subarray(20));
  });
  return replica.address;
}

async function startPythonAgent(t: Test, algorithm: Algorithm, status: string): Promise<string> {
  const args = [join(python, 'compressing_agent.py'), 'python', algorithm, status];
  const agent = startProcess(t, requireTool('python'), args);
  const port = await waitUntil('the agent said its port', () => /^(\d+)$/m.exec(agent.logs())?.[1]);
  return `127.0.0.1:${port}`;
}

t.test('a replica whose answers are FAILED is ejected, compressed or not', async (t) => {
  const good = await startAgent(t, 0);
  const usual = await reachFailing(t, await startAgent(t, FAILED), good);
  t.ok(usual < 10, `${usual} of 40 calls`);
  for (const [encoding, pack] of Object.entries(packed)) {
    const failing = await startAgent(t, FAILED, pack, encoding);
    t.equal(await reachFailing(t, failing, good), usual, encoding);
  }
  t.test('grpcio reads compressed answers', { skip }, async (t) => {
    for (const algorithm of ['gzip', 'deflate'] as const) {
      const failing = await startPythonAgent(t, algorithm, 'FAILED');
      t.equal(
        await reachFailing(t, failing, await startPythonAgent(t, algorithm, 'SUCCESS')),
        usual,
        algorithm,
      );
    }
  });
});

t.test('the sidecar counts tokens and status of compressed answers', async (t) => {
  for (const [encoding, pack] of Object.entries(packed)) {
    const plane = await startDataPlane(t, {
      name: 'agent',
      inbound: { app: await startAgent(t, FAILED, pack, encoding) },
    });
    const client = new RawClient(t, plane.inboundPort);
    await client.unary(taskRequest({ id: 'task' }), { path: PROCESS_TASK_PATH });
    const [counted] = plane.sidecar.inbound.tasks.agents.values();
    t.match(counted, { wastedTokens: 7, usefulTokens: 0 }, encoding);
    t.equal(counted!.byOutcome[FAILED], 1, encoding);
  }
});

t.test('the ids in its tasks relate the calls of a compressing agent to their owner', async (t) => {
  const leaf = await startUpstream(t, { name: 'leaf' });
  const running: (() => void)[] = [];
  const app = await startRawServer(
    t,
    { unary: ({ request }, callback) => running.push(() => callback(null, request)) },
    { unaryPath: PROCESS_TASK_PATH },
  );
  const plane = await startDataPlane(t, {
    inbound: { app: app.address, call_baggage: false },
    outbound: { clusters: { leaf: { endpoints: [leaf.address] } } },
  });
  const compress = { 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip };
  const client = new RawClient(t, plane.inboundPort, compress);
  const ids = ['one', 'other'];
  const inbound = ids.map((id, n) => {
    const metadata = new grpc.Metadata();
    metadata.set('outrigger-token-budget', String(100 * (n + 1)));
    return client.unary(taskRequest({ id, input: longInput }), { path: PROCESS_TASK_PATH, metadata });
  });
  await waitUntil('both run', () => running.length === 2);
  const outbound = new RawClient(t, plane.outboundPort, { ...compress, 'grpc.default_authority': 'leaf' });
  for (const id of ids)
    await outbound.unary(taskRequest({ id, input: longInput }), { path: PROCESS_TASK_PATH });
  t.strictSame(
    leaf.calls.map(({ headers }) => headers['outrigger-token-budget']),
    ['50', '100'],
  );
  for (const answer of running) answer();
  for (const call of inbound) t.equal((await call).code, grpc.status.OK);
});
