// The offline provider: its API, checked with the openai client, and its faults.
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import OpenAI from 'openai';
import t, { type Test } from 'tap';
import { compose } from './compose.ts';
import { programTitles } from './programs.ts';
import { type Provider, startProvider } from './server.ts';
import { subjects } from './subjects.ts';

const question = 'Why do circuit breakers matter for circuit safety?';
const messages = [
  { role: 'system' as const, content: 'You are a research agent.' },
  { role: 'user' as const, content: question },
];

async function provider(test: Test): Promise<{ provider: Provider; openai: OpenAI }> {
  const started = await startProvider('127.0.0.1', 0);
  test.teardown(() => started.close());
  return {
    provider: started,
    openai: new OpenAI({ baseURL: started.baseUrl, apiKey: 'none', maxRetries: 0 }),
  };
}

/** The error of a promise that must reject. */
async function failure(failing: Promise<unknown>): Promise<unknown> {
  return failing.then(
    () => new Error('the promise did not reject'),
    (error: unknown) => error,
  );
}

async function postControl(base: string, path: string, body: unknown): Promise<Response> {
  const url = new URL(path, base);
  return fetch(url, { method: 'POST', body: JSON.stringify(body) });
}

t.test('chat completions, whole and streamed, give the same text and usage', async (t) => {
  const { openai } = await provider(t);
  const whole = await openai.chat.completions.create({ model: 'm', messages });
  const text = whole.choices[0]!.message.content!;
  t.match(
    text,
    /^Finding: A circuit breaker stops sending calls.*Offline answer to the research instructions and the question "Why do circuit breakers matter/s,
  );
  t.equal(whole.choices[0]!.finish_reason, 'stop');
  t.equal(whole.usage!.total_tokens, whole.usage!.prompt_tokens + whole.usage!.completion_tokens);
  t.ok(whole.usage!.prompt_tokens > 5);

  const stream = await openai.chat.completions.create({
    model: 'm',
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  let streamed = '';
  let finish: string | null = null;
  let usage: object | null | undefined;
  for await (const chunk of stream) {
    streamed += chunk.choices[0]?.delta.content ?? '';
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  t.equal(streamed, text);
  t.equal(finish, 'stop');
  t.same(usage, whole.usage);

  const helper = openai.chat.completions.stream({ model: 'm', messages });
  t.equal((await helper.finalChatCompletion()).choices[0]!.message.content, text);

  const other = await openai.chat.completions.create({
    model: 'm',
    messages: [{ role: 'system', content: 'You are a code agent.' }, messages[1]!],
  });
  t.match(other.choices[0]!.message.content, /```ts/, 'other instructions give another kind of answer');
});

t.test('answers have the form that was asked for, and are the same each time', async (t) => {
  const asked: [role: string, question: string, RegExp][] = [
    [
      'writing',
      'Write a haiku on draining a server',
      /^# Draining\n\nNo new guests tonight\.\n.*\n.*\n\n\(Offline/,
    ],
    [
      'research',
      'Compare retries and hedging',
      /^Finding: Retries and hedging answer.*Retries: A retry.*Hedging: A hedge/s,
    ],
    ['research', 'Compare retries and magic wands', /^Finding: A retry.*knows nothing of magic wands/s],
    ['writing', 'Explain deadlines to me', /^# Deadlines\n\n.*A deadline travels with a request/],
    ['general', 'How do I drain a server?', /^A drain takes.*\n1\. Decide whether you need it\..*\n4\. /s],
    ['general', 'Please tell me about tracing', /^A trace follows one request/],
    [
      'research',
      'What is the capital of France?',
      /^Finding: nothing here supports an answer about "the capital of France"/,
    ],
    [
      'writing',
      'Explain gRPC to a child',
      /^# gRPC to a child\n\nThis could have been a text about "gRPC to a child"/,
    ],
    ['code', 'Write a poem in Prolog', /has no program for "Prolog", and a wrong one would be worse/],
    ['general', '', /^This could have been a text about "the question"/],
  ];
  for (const [role, question, form] of asked) {
    const answer = compose(role, question);
    t.match(answer, form);
    t.match(answer, /no model answered this\.\)$/, 'it says that it is offline');
    t.equal(compose(role, question), answer);
    t.notMatch(answer, /undefined|\.\.| {2}/);
  }
  t.ok(
    compose('writing', `Explain ${'very '.repeat(5000)}long questions`).length < 1500,
    'a long question gets no long answer',
  );
  for (const { title, does } of subjects)
    t.ok(compose('research', `Why do we need ${title.toLowerCase()}?`).includes(does), title);
});

t.test('the programs of the offline provider run as they stand', async (t) => {
  const folder = t.testdir();
  const load = async (title: string) => {
    const [, code = ''] = /^```ts\n(.*)\n```/s.exec(compose('code', `Write a function for ${title}`)) ?? [];
    const file = join(folder, `${title.replaceAll(/\W/g, '-')}.ts`);
    writeFileSync(file, code);
    return import(pathToFileURL(file).href);
  };
  for (const title of programTitles) t.ok(Object.keys(await load(title)).length > 0, title);
  const { isPrime } = await load('prime numbers');
  t.same([-1, 0, 1, 2, 9, 97].filter(isPrime), [2, 97]);
  const { retry } = await load('retries with back-off');
  let runs = 0;
  const failsTwice = async () => (++runs < 3 ? Promise.reject(new Error('not yet')) : runs);
  t.equal(await retry(failsTwice, 4, 1), 3);
  const { RateLimit } = await load('a rate limit');
  const limit = new RateLimit(2, 3);
  t.same(
    [0, 0, 0, 0, 500, 500].map((atMs) => limit.take(atMs)),
    [true, true, true, false, true, false],
  );
});

t.test('responses, whole and streamed, are what the client expects', async (t) => {
  const { openai } = await provider(t);
  const asked = { model: 'm', instructions: 'You are a writing agent.', input: question };
  const whole = await openai.responses.create(asked);
  t.equal(whole.status, 'completed');
  t.match(whole.output_text, /^# /);
  t.ok(whole.usage!.output_tokens > 0);

  const types: string[] = [];
  const numbers: number[] = [];
  let streamed = '';
  for await (const event of await openai.responses.create({ ...asked, stream: true })) {
    types.push(event.type);
    numbers.push(event.sequence_number);
    if (event.type === 'response.output_text.delta') streamed += event.delta;
    if (event.type === 'response.completed') {
      t.equal(event.response.usage!.total_tokens, whole.usage!.total_tokens);
    }
  }
  t.equal(streamed, whole.output_text);
  t.same([types[0], types.at(-1)], ['response.created', 'response.completed']);
  t.same(
    numbers,
    numbers.map((_, index) => index),
  );

  const final = await openai.responses.stream(asked).finalResponse();
  t.equal(final.output_text, whole.output_text, "the client's own accumulator agrees");

  const cut = await openai.responses.create({ ...asked, max_output_tokens: 16 });
  t.equal(cut.status, 'incomplete');
  t.equal(cut.usage!.output_tokens, 16);
});

t.test('limits, models and embeddings', async (t) => {
  const { openai } = await provider(t);
  const cut = await openai.chat.completions.create({ model: 'm', messages, max_tokens: 5 });
  t.equal(cut.choices[0]!.finish_reason, 'length');
  t.equal(cut.usage!.completion_tokens, 5);

  const listed = await openai.models.list();
  t.ok(listed.data.some(({ id }) => id === 'gpt-4o-mini'));

  const { data } = await openai.embeddings.create({
    model: 'e',
    input: ['a red boat', 'a red boat', 'tax law'],
    dimensions: 64,
  });
  const [one, same, other] = data.map(({ embedding }) => embedding) as [number[], number[], number[]];
  const dot = (a: number[], b: number[]) => a.reduce((sum, value, index) => sum + value * b[index]!, 0);
  t.equal(one.length, 64);
  t.same(one, same);
  t.ok(Math.abs(dot(one, one) - 1) < 1e-5, 'length 1');
  t.ok(dot(one, other) < 0.9);
});

t.test('the provider refuses bad requests as the API does', async (t) => {
  const { openai, provider: running } = await provider(t);
  const { completions } = openai.chat;
  t.match(await failure(completions.create({ model: 'm', messages: [] })), {
    status: 400,
    param: 'messages',
  });
  t.match(await failure(completions.create({ model: 'm', messages, temperature: 3 })), { status: 400 });
  t.match(await failure(openai.responses.create({ model: '', input: 'x' })), { status: 400, param: 'model' });
  t.equal((await postControl(running.baseUrl, '/v1/nothing', {})).status, 404);
  const raw = connect(Number(new URL(running.baseUrl).port), '127.0.0.1');
  raw.write('GET // HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
  t.match(String((await once(raw, 'data'))[0]), /^HTTP\/1\.1 404/, 'a path that is no URL');
  raw.destroy();
  const broken = await fetch(`${running.baseUrl}/chat/completions`, { method: 'POST', body: '{' });
  t.equal(broken.status, 400);
  const control = await postControl(running.baseUrl, '/control/behaviour', { behaviour: { fial: 1 } });
  t.equal(control.status, 400);
  t.match(await control.text(), /no key \\"fial\\"/);
});

t.test('the provider throttles, fails, truncates, stalls and garbles on demand, and counts', async (t) => {
  const { openai, provider: running } = await provider(t);
  const ask = (model: string) => openai.chat.completions.create({ model, messages });
  const rule = async (body: object) => {
    const answered = await postControl(running.baseUrl, '/control/behaviour', body);
    t.equal(answered.status, 200);
  };
  const read = async (model: string) => {
    let text = '';
    const stream = await openai.chat.completions.create({ model, messages, stream: true });
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
    return text;
  };

  await rule({ times: 1, scope: { model: 'busy' }, behaviour: { throttle: { retry_after: 7 } } });
  const throttled = (await failure(ask('busy-1'))) as InstanceType<typeof OpenAI.APIError>;
  t.equal(throttled.status, 429);
  t.equal(throttled.headers?.get('retry-after'), '7');
  t.ok(await ask('busy-1'), 'the rule applies once');

  await rule({ scope: { input: 'breakers' }, times: 1, behaviour: { fail: { status: 503 } } });
  t.match(await failure(ask('m')), { status: 503 });

  await rule({ scope: { model: 'cut' }, behaviour: { cut_after_chunks: 3 } });
  await t.rejects(read('cut'), /terminated/);
  await t.rejects(ask('cut'));

  await rule({ scope: { model: 'neat' }, behaviour: { end_after_chunks: 3 } });
  t.equal((await read('neat')).trim().split(/\s+/).length <= 3, true, 'the stream ends without an error');

  await rule({ scope: { model: 'garbled' }, behaviour: { malformed: true } });
  await t.rejects(read('garbled'), /malformed/);

  await rule({ scope: { model: 'long' }, behaviour: { output_tokens: 5000 } });
  t.equal((await ask('long')).usage!.completion_tokens, 5000);

  const stats = await (await fetch(new URL('/control/stats', running.baseUrl))).json();
  t.match(stats, {
    requests: 8,
    aborted: 2,
    by_model: { 'busy-1': 2, cut: 2 },
    by_status: { 429: 1, 503: 1 },
  });
});

t.test('the provider calls a tool on demand, whole and streamed, by both endpoints', async (t) => {
  const { openai, provider: running } = await provider(t);
  const tool_call = { name: 'count', arguments: '{"text": "one two"}' };
  const answered = await postControl(running.baseUrl, '/control/behaviour', { behaviour: { tool_call } });
  t.equal(answered.status, 200);
  const { choices } = await openai.chat.completions.create({ model: 'm', messages });
  t.match(choices[0], { finish_reason: 'tool_calls', message: { tool_calls: [{ function: tool_call }] } });
  const final = await openai.chat.completions.stream({ model: 'm', messages }).finalChatCompletion();
  t.match(final.choices[0], {
    finish_reason: 'tool_calls',
    message: { tool_calls: [{ function: tool_call }] },
  });
  const item = { type: 'function_call', status: 'completed', ...tool_call };
  t.match((await openai.responses.create({ model: 'm', input: 'x' })).output, [item]);
  t.match((await openai.responses.stream({ model: 'm', input: 'x' }).finalResponse()).output, [item]);
});

t.test('a stalled stream ends when its caller disconnects, and the statistics count it', async (t) => {
  const { openai, provider: running } = await provider(t);
  running.faults.add({ behaviour: { stall_after_chunks: 2 } });
  const leave = new AbortController();
  const options = { signal: leave.signal, headers: { 'x-task-id': 'task-7' } };
  const stream = await openai.chat.completions.create({ model: 'm', messages, stream: true }, options);
  const chunks = stream[Symbol.asyncIterator]();
  await chunks.next();
  await chunks.next();
  t.match(running.stats.read(), { active: 1, aborted: 0, by_task: { 'task-7': 1 } });
  leave.abort();
  while (running.stats.read().active > 0) await once(AbortSignal.timeout(5), 'abort');
  t.equal(running.stats.read().aborted, 1);

  await postControl(running.baseUrl, '/control/reset', {});
  t.match(running.stats.read(), { requests: 0, aborted: 0, by_task: {} });
  t.ok(await openai.chat.completions.create({ model: 'm', messages }), 'the reset removes the rules');
});
