// Tasks of an agent: answers, streams, deadlines, cancellation and errors.
import { Metadata, status } from '@grpc/grpc-js';
import OpenAI from 'openai';
import t from 'tap';
import { maxMessageBytes } from '../protocol/definitions.ts';
import { failureOf, processTask, streamProcess, testAgent, testProvider, until } from '../test-support.ts';
import type { Agent } from './agent.ts';
import { AgentError, classify } from './errors.ts';
import { readSettings, secretsOf } from './settings.ts';

/** An agent that uses the model like the real agents. */
const modelAgent: Partial<Agent> = {
  async processTask(task, { openai, modelOptions }) {
    const messages = [{ role: 'user' as const, content: task.input }];
    const { choices, usage } = await openai.chat.completions.create({ ...modelOptions, messages });
    return { output: choices[0]!.message.content!, tokens_used: usage!.total_tokens };
  },
  async *streamProcess(task, { openai, modelOptions, answerText }) {
    const messages = [{ role: 'user' as const, content: task.input }];
    yield* answerText(await openai.chat.completions.create({ ...modelOptions, messages, stream: true }));
  },
};

t.test('an agent answers a task whole and as a stream, and its ids reach the provider', async (t) => {
  const provider = await testProvider(t);
  const { client } = await testAgent(t, modelAgent, { baseUrl: provider.baseUrl });
  const task = { task_id: 'task-1', correlation_id: 'c', input: 'What is a canoe?', temperature: 0.7 };

  const answer = await processTask(client, task);
  t.match(answer, { task_id: 'task-1', status: 'SUCCESS', tool_calls: [] });
  t.match(answer.output, /canoe/);
  t.ok(answer.tokens_used > 0);
  t.ok(answer.latency_ms >= 0);

  const chunks = await streamProcess(client, task);
  t.equal(chunks.map(({ chunk }) => chunk).join(''), answer.output);
  t.ok(chunks.length > 5, 'in pieces');
  t.same(
    chunks.map(({ is_final }) => is_final),
    chunks.map((_, index) => index === chunks.length - 1),
    'only the last chunk is final',
  );
  t.match(provider.stats.read(), { requests: 2, by_task: { 'task-1': 2 }, by_model: { 'test-model': 2 } });

  const short = await processTask(client, { ...task, max_tokens: 3 });
  t.ok(short.tokens_used < answer.tokens_used, 'max_tokens reaches the model');
});

t.test('of a run with tools the last completion has to finish', async (t) => {
  const provider = await testProvider(t);
  const { client } = await testAgent(
    t,
    {
      async *streamProcess(task, { openai, modelOptions, answerText }) {
        const messages = [{ role: 'user' as const, content: task.input }];
        const parameters = { type: 'object' };
        const clock = { name: 'clock', description: 'The time', parameters, function: () => 'noon' };
        const tools = [{ type: 'function' as const, function: clock }];
        yield* answerText(
          openai.chat.completions.runTools({ ...modelOptions, messages, tools, stream: true }),
        );
      },
    },
    { baseUrl: provider.baseUrl },
  );
  const call = { tool_call: { name: 'clock' } };
  provider.faults.add({ times: 1, behaviour: call });
  const chunks = await streamProcess(client, { input: 'What time is it?' });
  t.match(chunks.map(({ chunk }) => chunk).join(''), 'What time is it?');
  // The latest rule that matches applies: the call first, then the answer that breaks off.
  provider.faults.add({ behaviour: { end_after_chunks: 3 } });
  provider.faults.add({ times: 1, behaviour: call });
  const cut = await failureOf(streamProcess(client, { input: 'What time is it?' }));
  t.match(cut, { code: status.UNAVAILABLE, details: /ended early/ });
});

t.test('a slowed agent delays each task, but not beyond its deadline', async (t) => {
  const { server, client } = await testAgent(t, {});
  server.delayTasks(60_000);
  const late = await failureOf(processTask(client, { input: 'x' }, { deadline: Date.now() + 200 }));
  t.equal(late.code, status.DEADLINE_EXCEEDED);
  server.delayTasks(30);
  t.ok((await processTask(client, { input: 'x' })).latency_ms >= 29);
  server.delayTasks(0);
  t.equal((await processTask(client, { input: 'x' })).output, 'x');
});

t.test('cancellation of a call ends its model request', async (t) => {
  const provider = await testProvider(t);
  provider.faults.add({ behaviour: { stall_after_chunks: 2 } });
  const { client } = await testAgent(t, modelAgent, { baseUrl: provider.baseUrl });

  const unary = client.ProcessTask({ input: 'x' }, new Metadata(), {}, () => {});
  await until(() => provider.stats.read().active === 1);
  unary.cancel();
  await until(() => provider.stats.read().aborted === 1);

  const stream = client.StreamProcess({ input: 'x' }, new Metadata(), {});
  const ended = failureOf(stream.forEach(() => void stream.cancel()));
  t.equal((await ended).code, status.CANCELLED);
  await until(() => provider.stats.read().aborted === 2);
  t.match(provider.stats.read(), { requests: 2, active: 0, aborted: 2 });
});

t.test('a deadline ends the model request and the task', async (t) => {
  const provider = await testProvider(t);
  provider.faults.add({ behaviour: { latency_ms: 600_000 } });
  const left: number[] = [];
  const reasons: unknown[] = [];
  const { client } = await testAgent(
    t,
    {
      ...modelAgent,
      async processTask(task, context) {
        left.push(context.timeLeftMs());
        context.signal.addEventListener('abort', () => reasons.push(context.signal.reason));
        return modelAgent.processTask!(task, context);
      },
    },
    { baseUrl: provider.baseUrl },
  );
  // A caller that sets a deadline and leaves its enforcement to the agent.
  const metadata = new Metadata();
  metadata.set('grpc-timeout', '1000m');
  const unary = await failureOf(processTask(client, { input: 'x' }, {}, metadata));
  t.equal(unary.code, status.DEADLINE_EXCEEDED);
  t.ok(left[0]! > 0 && left[0]! <= 1000);
  t.match(reasons, [{ code: 'DEADLINE_EXCEEDED' }]);
  await until(() => provider.stats.read().aborted === 1);

  const stream = await failureOf(streamProcess(client, { input: 'x' }, { deadline: Date.now() + 1000 }));
  t.equal(stream.code, status.DEADLINE_EXCEEDED);
  await until(() => provider.stats.read().aborted === 2);
});

t.test('a call ends at its deadline although the agent ignores the signal', async (t) => {
  let deaf = 0;
  const { client } = await testAgent(t, {
    processTask: () => {
      deaf += 1;
      return new Promise(() => {});
    },
    streamProcess: () => ({
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise(() => {}),
        return: () => new Promise(() => {}),
      }),
    }),
  });
  const deadline = () => ({ deadline: Date.now() + 1000 });
  t.equal((await failureOf(processTask(client, { input: 'x' }, deadline()))).code, status.DEADLINE_EXCEEDED);
  t.equal(
    (await failureOf(streamProcess(client, { input: 'x' }, deadline()))).code,
    status.DEADLINE_EXCEEDED,
  );
  t.equal(deaf, 1);
});

t.test("the provider's failures become statuses", async (t) => {
  const provider = await testProvider(t);
  const { client, log } = await testAgent(t, modelAgent, { baseUrl: provider.baseUrl });
  const cases = [
    [{ throttle: { retry_after: 7 } }, 'RESOURCE_EXHAUSTED'],
    [{ fail: { status: 500 } }, 'UNAVAILABLE'],
    [{ fail: { status: 503 } }, 'UNAVAILABLE'],
    [{ fail: { status: 408 } }, 'UNAVAILABLE'],
    [{ fail: { status: 400 } }, 'INVALID_ARGUMENT'],
    [{ fail: { status: 401 } }, 'INTERNAL'],
    [{ fail: { status: 404 } }, 'INTERNAL'],
    [{ cut_after_chunks: 3 }, 'UNAVAILABLE'],
  ] as const;
  for (const [behaviour, expected] of cases) {
    provider.faults.clear();
    provider.faults.add({ behaviour });
    const unary = await failureOf(processTask(client, { input: 'x' }));
    t.equal(status[unary.code], expected, `${JSON.stringify(behaviour)}, unary: ${unary.details}`);
    const stream = await failureOf(streamProcess(client, { input: 'x' }));
    t.equal(status[stream.code], expected, `${JSON.stringify(behaviour)}, streaming`);
    if ('throttle' in behaviour) t.same(unary.metadata.get('grpc-retry-pushback-ms'), ['7000']);
  }
  provider.faults.clear();
  provider.faults.add({ behaviour: { end_after_chunks: 3 } });
  const neat = await failureOf(streamProcess(client, { input: 'x' }));
  t.equal(neat.code, status.UNAVAILABLE, 'a stream without its end marker fails');

  await provider.close();
  t.equal((await failureOf(processTask(client, { input: 'x' }))).code, status.UNAVAILABLE, 'nobody there');
  t.notMatch(log.join(''), /test-key-0123/);
});

t.test("the status includes the provider's own message, without keys", async (t) => {
  const ofStatus = (httpStatus: number, error: object, headers = {}) =>
    OpenAI.APIError.generate(httpStatus, { error }, undefined, new Headers(headers));
  const inStream = (error: object) => new OpenAI.APIError(undefined, error, undefined, new Headers());
  const cases: [Error, keyof typeof status, string, object][] = [
    [
      ofStatus(401, { message: 'Incorrect API key provided: sk-ab***yz, or test-key-0123.' }),
      'INTERNAL',
      'the model provider refused this agent (HTTP 401): Incorrect API key provided: [secret], or [secret].',
      { status: 401, message: 'Incorrect API key provided: [secret], or [secret].' },
    ],
    [
      ofStatus(404, { message: 'no model x' }, { 'outrigger-upstream': 'openai' }),
      'INTERNAL',
      'the model provider refused this agent (HTTP 404): no model x',
      { status: 404, upstream: 'openai', message: 'no model x' },
    ],
    [
      ofStatus(429, { message: 'quota\nis gone', code: 'insufficient_quota' }),
      'RESOURCE_EXHAUSTED',
      'the model provider demands payment from this agent (HTTP 429): quota is gone',
      { status: 429 },
    ],
    [
      ofStatus(
        503,
        { message: 'nobody is asked', code: 'circuit_open' },
        { 'outrigger-reason': 'circuit_open' },
      ),
      'UNAVAILABLE',
      'the model provider failed (HTTP 503): nobody is asked',
      { reason: 'circuit_open' },
    ],
    [
      inStream({ message: 'the stream ended', type: 'outrigger_error', code: 'stream_cut' }),
      'UNAVAILABLE',
      'the model provider broke off its answer: the stream ended',
      { reason: 'stream_cut' },
    ],
    [
      inStream({ message: 'x'.repeat(1000), code: 'insufficient_quota' }),
      'RESOURCE_EXHAUSTED',
      `the model provider demands payment from this agent: ${'x'.repeat(299)}…`,
      {},
    ],
    [
      new OpenAI.APIConnectionError({ message: 'Connection error.' }),
      'UNAVAILABLE',
      'the model provider cannot be reached: Connection error.',
      { message: 'Connection error.' },
    ],
  ];
  const { client } = await testAgent(t, {
    processTask: async ({ input }) => {
      throw cases[Number(input)]![0];
    },
  });
  for (const [index, [, code, details, model]] of cases.entries()) {
    const failure = await failureOf(processTask(client, { input: `${index}` }));
    t.match(failure, { code: status[code], details }, details);
    t.match(JSON.parse(String(failure.metadata.get('agent-error-model')[0])), model);
    const pushback = failure.metadata.get('grpc-retry-pushback-ms');
    t.same(
      pushback,
      code === 'RESOURCE_EXHAUSTED' ? ['-1'] : [],
      'callers must never retry an unpaid request',
    );
  }
});

t.test('without a key the caller reads that there is none', async (t) => {
  const { model } = readSettings({});
  t.same(secretsOf(model), []);
  const refused = OpenAI.APIError.generate(
    401,
    { error: { message: `Incorrect API key provided: ${model.apiKey}.` } },
    undefined,
    new Headers(),
  );
  t.match(classify(refused, secretsOf(model)).message, /Incorrect API key provided: none\.$/);
  t.same(secretsOf(readSettings({ OPENAI_API_KEY: 'test-key-0123' }).model), ['test-key-0123']);
});

t.test("only an AgentError's message reaches the caller", async (t) => {
  const thrown: unknown[] = [
    new AgentError('FAILED_PRECONDITION', 'no index yet', { retryAfterMs: 1500 }),
    new AgentError('INVALID_ARGUMENT', 'needs a language', { field: 'input' }),
    new AgentError('PERMISSION_DENIED', 'not for you'),
    new TypeError('cannot read Bearer abc.def of sk-live-12345678 test-key-0123'),
    'a text',
    undefined,
  ];
  const { client, log } = await testAgent(t, {
    processTask: async ({ input }) => {
      throw thrown[Number(input)];
    },
  });
  const failures = [];
  for (const index of thrown.keys())
    failures.push(await failureOf(processTask(client, { input: `${index}` })));
  const [meant, field, denied, ...others] = failures;
  t.match(meant, { code: status.FAILED_PRECONDITION, details: 'no index yet' });
  t.same(meant!.metadata.get('grpc-retry-pushback-ms'), ['1500']);
  t.match(field, { code: status.INVALID_ARGUMENT, details: 'needs a language' });
  t.same(field!.metadata.get('agent-error-field'), ['input']);
  t.match(denied, { code: status.PERMISSION_DENIED, details: 'not for you' });
  for (const other of others) t.match(other, { code: status.INTERNAL, details: 'the agent failed' });
  t.match(log.join(''), /cannot read Bearer \[secret\] of \[secret\] \[secret\]/, 'logged without keys');
  t.notMatch(log.join(''), /sk-live|test-key-0123|abc\.def/);
});

t.test('the runtime refuses invalid tasks before the agent runs', async (t) => {
  let runs = 0;
  const { client } = await testAgent(t, {
    processTask: async () => {
      runs += 1;
      return { output: '' };
    },
  });
  const bad = [
    [{ input: ' \n' }, 'input'],
    [{ input: 'x', max_tokens: -1 }, 'max_tokens'],
    [{ input: 'x', temperature: 2.5 }, 'temperature'],
    [{ input: 'x', temperature: Number.NaN }, 'temperature'],
  ] as const;
  for (const [task, field] of bad) {
    const failure = await failureOf(processTask(client, task));
    t.equal(failure.code, status.INVALID_ARGUMENT);
    t.same(failure.metadata.get('agent-error-field'), [field]);
  }
  t.equal(runs, 0);
});

t.test('messages may have at most 10 MiB', async (t) => {
  const { client } = await testAgent(t, {});
  const input = 'x'.repeat(maxMessageBytes - 100);
  t.equal((await processTask(client, { input })).output.length, input.length);
  const [first] = await streamProcess(client, { input });
  t.equal(first!.chunk.length, input.length);

  const generous = await testAgent(t, {
    processTask: async () => ({ output: 'x'.repeat(maxMessageBytes + 1) }),
  });
  t.equal((await failureOf(processTask(generous.client, { input: 'x' }))).code, status.RESOURCE_EXHAUSTED);
});

t.test(
  'an agent yields chunks no faster than the caller reads, and stops when the caller disconnects',
  async (t) => {
    let produced = 0;
    let closed = 0;
    const total = 400;
    const { client } = await testAgent(t, {
      async *streamProcess() {
        try {
          for (let index = 0; index < total; index += 1) {
            produced += 1;
            yield 'x'.repeat(64 * 1024);
          }
        } finally {
          closed += 1;
        }
      },
    });
    const call = client.StreamProcess({ input: 'x' }, new Metadata(), {});
    const reader = call[Symbol.asyncIterator]();
    await reader.next();
    let before = -1;
    // The agent has stopped when it produces nothing for a while.
    while (before !== produced) {
      before = produced;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    t.ok(produced < total / 2, `${produced} of ${total} chunks produced for a reader that took one`);
    let read = 1;
    while (!(await reader.next()).done) read += 1;
    t.equal(read, total + 1, 'every chunk and the final one');

    const left = client.StreamProcess({ input: 'x' }, new Metadata(), {});
    left.on('error', () => {});
    left.once('data', () => left.cancel());
    await until(() => closed === 2);
    t.ok(produced < 2 * total);
  },
);
