// A reader that does not read holds a bounded part of a stream, whatever the server would send.
import { once } from 'node:events';
import { setTimeout as after } from 'node:timers/promises';
import {
  type ClientReadableStream,
  Metadata,
  Server,
  ServerCredentials,
  type ServerWritableStream,
  status,
} from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { until } from '../test-support.ts';
import { connectAgent } from './agent-client.ts';
import { agentService, messageLimits } from './definitions.ts';
import type { TaskChunk, TaskRequest } from './messages.ts';
import { readOnDemand } from './read-on-demand.ts';

const MESSAGES = 120;
const MESSAGE_BYTES = 1 << 20;
/** What a server of grpc-js takes of its application before it says that it is full. */
const SERVER_HOLDS = 16;

const CHUNKS = ['a', 'b', 'c', 'd', 'e', 'f'];

type Call = ServerWritableStream<TaskRequest, Partial<TaskChunk>>;

/** An agent that streams like this; and a reader of it, with what grpc-js holds for it. */
async function reading(test: Test, stream: (call: Call) => unknown) {
  const server = new Server(messageLimits);
  server.addService(agentService, { StreamProcess: stream, ProcessTask() {}, HealthCheck() {} });
  const port = await new Promise<number>((resolve, reject) => {
    const bound = (error: Error | null, got: number) => (error === null ? resolve(got) : reject(error));
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), bound);
  });
  const client = connectAgent(`127.0.0.1:${port}`);
  test.teardown(() => {
    client.close();
    server.forceShutdown();
  });
  const leave = new AbortController();
  let call: ClientReadableStream<TaskChunk> | undefined;
  const chunks = readOnDemand(
    (interceptors) => {
      call = client.StreamProcess({ input: 'x' }, new Metadata(), { interceptors });
      return call;
    },
    ({ chunk }) => chunk.length,
    leave.signal,
  );
  return { chunks, leave, heldMessages: () => call?.readableLength ?? 0 };
}

t.test('a slow reader stops the server, and gets every message', async (t) => {
  let sent = 0;
  let taken = 0;
  let most = 0;
  const { chunks, heldMessages } = await reading(t, async (call) => {
    while (sent < MESSAGES) {
      const flows = call.write({ chunk: String(sent++).padEnd(MESSAGE_BYTES, 'x') });
      most = Math.max(most, sent - taken);
      if (!flows) await once(call, 'drain');
    }
    call.end();
  });
  let mostHeld = 0;
  for await (const { chunk } of chunks) {
    if (chunk.length !== MESSAGE_BYTES || Number.parseInt(chunk, 10) !== taken)
      t.fail(`message ${taken} is another one`);
    taken++;
    await after(2);
    mostHeld = Math.max(mostHeld, heldMessages());
  }
  t.equal(taken, MESSAGES);
  t.ok(mostHeld <= 1, `the reader's side held ${mostHeld} messages`);
  t.ok(most <= SERVER_HOLDS + 3, `the server was ${most} messages ahead`);
});

t.test('an error comes behind the messages before it', async (t) => {
  const { chunks } = await reading(t, (call) => {
    const fail = () => call.emit('error', { code: status.RESOURCE_EXHAUSTED, details: 'enough' });
    for (const chunk of CHUNKS.slice(0, -1)) call.write({ chunk });
    call.write({ chunk: CHUNKS.at(-1)! }, fail);
  });
  const got: string[] = [];
  const read = async () => {
    for await (const { chunk } of chunks) {
      got.push(chunk);
      await after(5);
    }
  };
  await t.rejects(read(), { code: status.RESOURCE_EXHAUSTED, details: 'enough' });
  t.same(got, CHUNKS);
});

t.test('a reader that leaves cancels the call, while messages wait or none do', async (t) => {
  for (const waiting of [0, 3]) {
    let isCancelled = false;
    const { chunks, leave } = await reading(t, (call) => {
      call.on('cancelled', () => (isCancelled = true));
      for (let n = 0; n <= waiting; n++) call.write({ chunk: 'x' });
    });
    t.equal((await chunks.next()).value?.chunk, 'x');
    leave.abort();
    await until(() => isCancelled);
    await t.rejects(
      async () => {
        while ((await chunks.next()).done !== true);
      },
      { code: status.CANCELLED },
    );
  }
  let isCancelled = false;
  const { chunks } = await reading(t, (call) => {
    call.on('cancelled', () => (isCancelled = true));
    for (let n = 0; n < 3; n++) call.write({ chunk: 'x' });
  });
  for await (const { chunk } of chunks) {
    t.equal(chunk, 'x');
    break;
  }
  await until(() => isCancelled);
  t.ok(isCancelled, 'leaving the loop is enough');
});
