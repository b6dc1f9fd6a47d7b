// The load has to be right before anything it says is: what it sends, and what it takes for an answer.
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { loadSync, type MethodDefinition } from '@grpc/proto-loader';
import t, { type Test } from 'tap';
import { RawClient } from '../../scripts/harness/raw-grpc.ts';
import { HpackDecoder } from '../../sidecar/http2/hpack/decoder.ts';
import { largeAnswer, paths, smallAnswer, streamBytes } from './answers.ts';
import { Caller } from './caller.ts';
import type { TrafficOptions } from './options.ts';
import { RequestBlocks } from './request-blocks.ts';
import { maxTokensOf, nextId, taskMessage } from './task-message.ts';
import { UpstreamConnection } from './upstream-connection.ts';

const CALLS = 300;
const plain = { path: paths.small, extraHeaders: 0, uniqueHeaders: 'none' } as const;

/** What a peer reads of so many blocks of one connection. */
function decoded(blocks: RequestBlocks, count: number): Map<string, string>[] {
  const decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: 65_536 });
  return Array.from({ length: count }, () => {
    const list = decoder.decode(blocks.block, 0, blocks.next());
    if (list === undefined) throw new Error(decoder.error);
    const fields = new Map<string, string>();
    for (let i = 0; i < list.fields.length; i += 2) fields.set(list.fields[i]!, list.fields[i + 1]!);
    return fields;
  });
}

t.test('a decoder reads every header block of a connection, with any number of fields', async (t) => {
  for (const extraHeaders of [0, 10, 60]) {
    for (const uniqueHeaders of ['none', 'literal', 'indexed'] as const) {
      const all = decoded(new RequestBlocks({ path: paths.small, extraHeaders, uniqueHeaders }), CALLS);
      const label = `${extraHeaders} more, ${uniqueHeaders}`;
      t.ok(
        all.every((fields) => fields.size === 7 + extraHeaders + (uniqueHeaders === 'none' ? 0 : 2)),
        label,
      );
      t.ok(
        all.every((fields) => fields.get(':path') === paths.small && fields.get('te') === 'trailers'),
        label,
      );
      if (uniqueHeaders === 'none') continue;
      const traces = all.map((fields) => fields.get('traceparent')!);
      const requests = all.map((fields) => fields.get('x-request-id')!);
      t.ok(
        traces.every((value) => /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/.test(value)),
        `${traces[0]}`,
      );
      t.ok(
        requests.every((value) =>
          /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(value),
        ),
        `${requests[0]}`,
      );
      t.equal(new Set(traces).size, CALLS, 'each trace is new');
      t.equal(new Set(requests).size, CALLS, 'each request id is new');
    }
  }
});

t.test('each task has its own id and follows the protocol', async (t) => {
  const definition = loadSync(join(import.meta.dirname, '..', '..', 'proto', 'agent_service.proto'), {
    keepCase: true,
  });
  const { requestDeserialize } = (
    definition['agent.AgentService'] as unknown as Record<
      string,
      MethodDefinition<{ task_id: string }, object>
    >
  )['ProcessTask']!;
  const message = taskMessage(1_000, 12_345);
  const ids = new Set<string>();
  for (let i = 0; i < 1_050; i++) {
    nextId(message);
    const task = requestDeserialize(message.subarray(5));
    ids.add(task.task_id);
    if (i === 0) t.match(task, { agent_type: 'research', input: 'y'.repeat(1_000), max_tokens: 12_345 });
  }
  t.equal(ids.size, 1_050);
  t.equal(message.readUInt32BE(1), message.length - 5);
  t.equal(maxTokensOf(message), 12_345);
  t.equal(maxTokensOf(taskMessage(10)), 0);
});

/** Makes calls to an upstream in this process until `count` have ended; answers what was wrong with each. */
async function call(
  t: Test,
  options: Partial<TrafficOptions> & { answerBytes: number },
  count: number,
): Promise<(string | undefined)[]> {
  const { port, outcomes } = { port: await startUpstream(t), outcomes: [] as (string | undefined)[] };
  const socket = connect({ port, host: '127.0.0.1' });
  t.teardown(() => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    const message = taskMessage(options.inputBytes ?? 100, options.chunks);
    const caller = new Caller(
      socket,
      message,
      options.answerBytes,
      { ...plain, ...options },
      {
        onReady(ready) {
          for (let i = 0; i < 10; i++) ready.call(0);
          ready.flush();
        },
        onEnd(ended, _, failure) {
          outcomes.push(failure);
          if (outcomes.length === count) resolve();
          else if (outcomes.length + 10 <= count) ended.call(0);
        },
        onFirstBytes() {},
        onBytes() {},
        onBroken: (why) => reject(new Error(why)),
      },
    );
    socket.on('data', (bytes) => caller.read(bytes));
  });
  return outcomes;
}

async function startUpstream(t: Test): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    t.teardown(() => socket.destroy());
    new UpstreamConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

t.test('calls of every kind succeed, with all their bytes', async (t) => {
  const none = (count: number): undefined[] => Array.from({ length: count }, () => undefined);
  const small = { answerBytes: smallAnswer.length };
  t.strictSame(await call(t, small, 500), none(500));
  t.strictSame(await call(t, { ...small, uniqueHeaders: 'literal' }, 500), none(500));
  t.strictSame(await call(t, { ...small, uniqueHeaders: 'indexed', extraHeaders: 60 }, 500), none(500));
  t.strictSame(await call(t, { path: paths.large, answerBytes: largeAnswer.length }, 20), none(20));
  t.strictSame(await call(t, { ...small, inputBytes: 1 << 20 }, 20), none(20), 'requests of 1 MiB');
  const stream = { path: paths.stream, chunks: 700, answerBytes: streamBytes(700) };
  t.strictSame(await call(t, stream, 20), none(20), 'streams');
});

t.test('an answer with another length or status is a failure', async (t) => {
  const outcomes = await call(t, { answerBytes: smallAnswer.length + 1 }, 10);
  t.ok(outcomes.every((failure) => failure?.includes(`${smallAnswer.length} bytes instead of`)));
  const refused = await call(t, { path: '/agent.AgentService/Unknown', answerBytes: 0 }, 10);
  t.ok(refused.every((failure) => failure?.startsWith('grpc-status 12')));
});

t.test('grpc-js can call the upstream', async (t) => {
  const client = new RawClient(t, await startUpstream(t));
  const request = taskMessage(100).subarray(5);
  for (const [path, answer] of [
    [paths.small, smallAnswer],
    [paths.large, largeAnswer],
    [paths.small, smallAnswer],
  ] as const) {
    const { code, response } = await client.unary(request, { path, deadline: Date.now() + 20_000 });
    t.equal(code, 0);
    t.ok(response?.equals(answer.subarray(5)), path);
  }
});
