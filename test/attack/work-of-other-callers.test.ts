// A caller sends the ids of another caller's running task, to end or to throttle what the agent does for that one.
import { Metadata, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import {
  chatAnswer,
  type LlmProvider,
  sendJson,
  startLlmProvider,
} from '../../scripts/harness/llm/provider.ts';
import { RawClient, rawPaths, startRawServer } from '../../scripts/harness/raw-grpc.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { PROCESS_TASK_PATH } from '../../sidecar/task/task-message.ts';
import { chat, send } from '../llm/send.ts';
import { taskRequest } from '../support/upstream.ts';
import { type Scene, startScene } from './scene.ts';

t.setTimeout(120_000);

const TASK = 'task of alice';
const TRACE = `00-${'ab'.repeat(16)}-00000000000000ff-00`;

interface Agency {
  readonly scene: Scene;
  readonly provider: LlmProvider;
  /** The provider answers all that it has been asked. */
  readonly answerAll: () => void;
  /** Has alice's call ask the model once more. */
  readonly askAgain: () => void;
  /** How many calls of bob's it has seen. */
  readonly bobsCalls: () => number;
}

/**
 * An agent that asks a model while it works for alice: at once, and once more when it is told to. It passes on the trace, and
 * names the task. For bob it does nothing, for as long as he likes.
 */
async function startAgency(t: Test): Promise<Agency> {
  const provider = await startLlmProvider();
  t.teardown(() => provider.close());
  let waiting: (() => void)[] = [];
  const url = provider.script('model', (_request, response) => {
    waiting.push(() => sendJson(response, 200, chatAnswer()));
  });
  let scene: Scene | undefined;
  let askAgain: (() => void) | undefined;
  let bobsCalls = 0;
  const work = async (metadata: Metadata): Promise<string> => {
    const [whose] = metadata.get('authorization').map(String);
    if (whose === 'bob') {
      bobsCalls++;
      return new Promise(() => {});
    }
    const ask = async (): Promise<string> => {
      const baseUrl = `http://127.0.0.1:${scene!.sidecar.llmPort}/v1`;
      const headers = { 'x-task-id': TASK, traceparent: TRACE };
      const answer = await send(baseUrl, '/chat/completions', chat({ max_tokens: 200 }), headers).answer;
      return `${answer.status} ${answer.headers['outrigger-reason'] ?? ''}`.trim();
    };
    const again = new Promise<void>((resolve) => {
      askAgain = resolve;
    });
    const answers = [ask(), again.then(ask)].map((answer) => answer.catch(String));
    return (await Promise.all(answers)).join(', ');
  };
  const app = await startRawServer(
    t,
    {
      unary: async ({ request, metadata }, callback) => {
        const isBystander = metadata.get('authorization').length === 0;
        callback(null, isBystander ? request : Buffer.from(await work(metadata)));
      },
      serverStream: async (call) => {
        call.write(Buffer.from(await work(call.metadata)));
        call.end();
      },
    },
    { unaryPath: PROCESS_TASK_PATH },
  );
  scene = await startScene(t, { app: app.address, config: { llm: { upstreams: [{ name: 'model', url }] } } });
  return {
    scene,
    provider,
    answerAll: () => {
      for (const answer of waiting) answer();
      waiting = [];
    },
    askAgain: () => askAgain!(),
    bobsCalls: () => bobsCalls,
  };
}

function metadataOf(fields: Readonly<Record<string, string>>): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(fields)) metadata.set(name, value);
  return metadata;
}

t.test("a caller with another caller's ids can't end her model request", async (t) => {
  const { scene, provider, answerAll, askAgain, bobsCalls } = await startAgency(t);
  const { inboundPort } = scene.sidecar;
  const requests = () => provider.requests('model');
  const alice = new RawClient(t, inboundPort);
  const bob = new RawClient(t, inboundPort, { 'grpc.enable_retries': 0 });

  const alices: Record<string, () => Promise<string>> = {
    'a task of hers': async () => {
      const metadata = metadataOf({ authorization: 'alice', traceparent: TRACE });
      const task = taskRequest({ id: TASK, input: `work ${requests().length}` });
      const { response, details } = await alice.unary(task, { path: PROCESS_TASK_PATH, metadata });
      return response?.toString() ?? details;
    },
    'another call of hers, in the same trace': async () => {
      const metadata = metadataOf({ authorization: 'alice', traceparent: TRACE });
      const stream = alice.serverStream(Buffer.from('work'), { path: rawPaths.serverStream, metadata });
      let said = '';
      stream.on('data', (part: Buffer) => {
        said += part;
      });
      return new Promise((resolve) => {
        stream.on('end', () => resolve(said));
        stream.on('error', (error) => resolve(error.message));
      });
    },
  };
  const bobs: Record<string, { id: string; fields: Record<string, string> }> = {
    'her task': { id: TASK, fields: {} },
    'her trace': { id: 'task of bob', fields: { traceparent: TRACE } },
    'her task and her trace': { id: TASK, fields: { traceparent: TRACE } },
  };

  const { bystander } = await scene.during(async () => {
    for (const [what, call] of Object.entries(alices)) {
      for (const [with_, { id, fields }] of Object.entries(bobs)) {
        const name = `${what}, and bob with ${with_}`;
        const before = requests().length;
        const seen = bobsCalls();
        const answered = call();
        await waitUntil('the model gets the request', () => requests().length === before + 1);
        const metadata = metadataOf({ authorization: 'bob', 'outrigger-token-budget': '1', ...fields });
        const attack = (input: string, deadline?: number) =>
          bob.client.makeUnaryRequest(
            PROCESS_TASK_PATH,
            (bytes: Buffer) => bytes,
            (bytes: Buffer) => bytes,
            taskRequest({ id, input: `${name} ${input}` }),
            metadata,
            deadline === undefined ? {} : { deadline },
            (error) => over.set(input, error?.code),
          );
        const over = new Map<string, status | undefined>();
        const [cancelled, stays] = [attack('to be cancelled'), attack('that stays')];
        attack('with little time', Date.now() + 1_000);
        await waitUntil('bob is there', () => bobsCalls() === seen + 3);
        askAgain();
        await waitUntil('the model gets another request', () => requests().length === before + 2);
        cancelled.cancel();
        await waitUntil('his time is up', () => over.get('with little time') === status.DEADLINE_EXCEEDED);
        await waitUntil('he has cancelled', () => over.get('to be cancelled') === status.CANCELLED);
        // A round trip behind which the sidecar has acted on both.
        await bob.unary(Buffer.alloc(0), { path: '/grpc.health.v1.Health/Check' });
        for (const [i, request] of requests().slice(before).entries())
          t.notOk(request.aborted, `request ${i + 1} goes on: ${name}`);
        answerAll();
        t.equal(await answered, '200, 200', name);
        stays.cancel();
        await waitUntil('bob has disconnected', () => over.size === 3);
      }
    }
  });
  scene.holds(t, bystander);
});

t.test('a request that certainly belongs to her call still ends with it', async (t) => {
  const { scene, provider, askAgain, bobsCalls } = await startAgency(t);
  const callOf = (authorization: string, traceparent: string) => {
    const client = new RawClient(t, scene.sidecar.inboundPort);
    const call = client.client.makeUnaryRequest(
      PROCESS_TASK_PATH,
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => bytes,
      taskRequest({ id: TASK, input: 'work' }),
      metadataOf({ authorization, traceparent }),
      () => {},
    );
    return call;
  };
  // The same task in another trace: her agent's requests are in hers.
  const bobs = callOf('bob', TRACE.replaceAll('ab', 'cd'));
  await waitUntil('bob is there', () => bobsCalls() === 1);
  const alices = callOf('alice', TRACE);
  await waitUntil('the model gets the request', () => provider.requests('model').length === 1);
  askAgain();
  await waitUntil('it gets another request', () => provider.requests('model').length === 2);
  alices.cancel();
  await waitUntil('the provider sees the end', () =>
    provider.requests('model').every(({ aborted }) => aborted),
  );
  bobs.cancel();
  scene.holds(t);
});
