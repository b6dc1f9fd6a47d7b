// The asynchronous REST API, through a sidecar with tasks in a file: accepted, followed, resumed, cancelled, listed.
import { join } from 'node:path';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { startDataPlane } from '../../../scripts/harness/data-plane.ts';
import { DEFAULT_LOG_SETTINGS } from '../../../scripts/harness/task-log-settings.ts';
import { openLocalTaskLog } from '../../../sidecar/bus/local/local-task-log.ts';
import { TaskCounts } from '../../../sidecar/bus/log/task-counts.ts';
import type { TaskLease, TaskLog } from '../../../sidecar/bus/log/task-log.ts';
import { BusMemory } from '../../../sidecar/bus/memory/bus-memory.ts';
import { decodeRequest, encodeResult, type ResultPayload } from '../../../sidecar/bus/message/payload.ts';
import { UNSEALED } from '../../../sidecar/bus/message/sealer.ts';
import { stringField, varintField } from '../../../sidecar/task/protobuf.ts';
import { testAgent } from '../../test-support.ts';
import { createGateway, type Gateway } from '../app.ts';
import { readGatewaySettings } from '../settings.ts';
import { prefersAsync } from './prefer.ts';

t.setTimeout(120_000);

const settings = {
  ...DEFAULT_LOG_SETTINGS,
  leaseMs: 60_000,
  maxRuns: 2,
  retryDelay: { baseMs: 1, maxMs: 1 },
};

interface System {
  log: TaskLog;
  url: string;
  gateway: Gateway;
  /** Another gateway on the same sidecar. */
  another(): Promise<{ url: string; gateway: Gateway }>;
}

async function startSystem(t: Test): Promise<System> {
  const log = await openLocalTaskLog(join(t.testdir(), 'tasks.db'), settings);
  t.teardown(() => log.close());
  const { sidecar } = await startDataPlane(t, {});
  sidecar.outbound.taskService.bus = {
    log,
    sealer: UNSEALED,
    memory: new BusMemory(),
    publisher: '',
    counts: new TaskCounts(),
    fieldsOf: () => [],
  };
  const another = async () => {
    const env = { GATEWAY_TASKS_ADDR: sidecar.outboundAddress };
    const gateway = await createGateway(readGatewaySettings(env), pino({ enabled: false }));
    t.teardown(() => gateway.stop(0));
    return { gateway, url: await gateway.app.listen({ host: '127.0.0.1', port: 0 }) };
  };
  return { log, another, ...(await another()) };
}

type Fields = Record<string, string>;
type View = Record<string, unknown> & {
  task_id: string;
  state: string;
  error?: { code: string; message: string };
};

async function send(
  url: string,
  path = '',
  init: { method?: string; headers?: Fields; body?: object } = {},
): Promise<{ status: number; headers: Headers; body: View }> {
  const { body, headers = {}, ...rest } = init;
  const answer = await fetch(`${url}/api/v1/tasks${path}`, {
    ...rest,
    headers: body === undefined ? headers : { 'content-type': 'application/json', ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  return { status: answer.status, headers: answer.headers, body: text === '' ? {} : JSON.parse(text) };
}

const later = { prefer: 'respond-async' };
const submit = (url: string, body: object, headers: Fields = {}) =>
  send(url, '', { method: 'POST', headers: { ...later, ...headers }, body });

async function take(log: TaskLog): Promise<TaskLease> {
  const lease = await log.take(['research'], 'a sidecar', AbortSignal.timeout(60_000));
  if (lease === undefined) throw new Error('no task came');
  await lease.begin();
  return lease;
}

async function write(lease: TaskLease, ...texts: string[]): Promise<void> {
  for (const text of texts) {
    const message = stringField(1, text);
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(message.length, 1);
    await lease.write(1, Buffer.concat([prefix, message]));
  }
}

const settle = (lease: TaskLease, status: number, result: Partial<ResultPayload> = {}): Promise<void> =>
  lease.settle({
    status,
    payload: encodeResult({ statusMessage: '', head: [], trailers: [], answer: undefined, ...result }),
  });

interface ServerEvent {
  event: string;
  id: string | undefined;
  data: Record<string, unknown>;
}

/** Follows a task's events as an EventSource does: keeps the id of the last one that had any. */
async function* eventsOf(url: string, id: string, lastEventId?: string): AsyncGenerator<ServerEvent> {
  const headers: Fields = lastEventId === undefined ? {} : { 'last-event-id': lastEventId };
  const answer = await fetch(`${url}/api/v1/tasks/${id}/events`, { headers });
  if (answer.status === 204) return;
  if (answer.status !== 200) throw new Error(`HTTP ${answer.status}: ${await answer.text()}`);
  let text = '';
  for await (const part of answer.body!.pipeThrough(new TextDecoderStream())) {
    text += part;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const lines = new Map(
        text
          .slice(0, end)
          .split('\n')
          .map((line) => line.split(/: (.*)/s, 2) as [string, string]),
      );
      text = text.slice(end + 2);
      const event = lines.get('event');
      if (event !== undefined) yield { event, id: lines.get('id'), data: JSON.parse(lines.get('data')!) };
    }
  }
}

async function allOf(events: AsyncIterable<ServerEvent>): Promise<ServerEvent[]> {
  const all: ServerEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

const written = ({ event, id, data }: ServerEvent): string =>
  `${event} ${id ?? '-'} ${data['chunk'] ?? data['state'] ?? data['run']}`;

t.test('Prefer: respond-async is one preference of a list', async (t) => {
  for (const yes of [
    'respond-async',
    'wait=5, Respond-Async',
    'respond-async; foo=1',
    ['a', 'respond-async'],
  ])
    t.ok(prefersAsync(yes), String(yes));
  for (const no of [undefined, '', 'respond', 'wait=respond-async', 'return=minimal'])
    t.notOk(prefersAsync(no), String(no));
});

t.test('a submitted task is answered with its address, and outlives the gateway that took it', async (t) => {
  const { log, url, gateway, another } = await startSystem(t);
  const accepted = await submit(url, {
    input: 'why?',
    correlation_id: 'c',
    stream: false,
    timeout_ms: 600_000,
  });
  t.equal(accepted.status, 202);
  const { task_id: id } = accepted.body;
  t.equal(accepted.headers.get('location'), `/api/v1/tasks/${id}`);
  t.equal(accepted.headers.get('preference-applied'), 'respond-async');
  t.match(accepted.body, {
    state: 'queued',
    agent_type: 'research',
    run: 0,
    submitted_at: /^20.*Z$/,
    deadline_at: /Z$/,
  });
  t.match((await send(url, `/${id}`)).body, { task_id: id, state: 'queued' });
  await gateway.stop(0);

  const lease = await take(log);
  t.match(decodeRequest(await lease.request()), {
    path: '/agent.AgentService/ProcessTask',
    correlationId: 'c',
  });
  const { url: second } = await another();
  t.match((await send(second, `/${id}`)).body, { state: 'running', run: 1, started_at: /Z$/ });
  const answer = [stringField(2, 'because'), varintField(3, 1), varintField(4, 7), varintField(5, 12)];
  await settle(lease, 0, { answer: Buffer.concat(answer) });
  const done = {
    task_id: id,
    state: 'done',
    output: 'because',
    status: 'PARTIAL',
    tokens_used: 7,
    latency_ms: 12,
  };
  t.match(await send(second, `/${id}`), { status: 200, body: done });
  t.match(
    await send(second, `/${id}`, { method: 'DELETE' }),
    { status: 200, body: { state: 'done' } },
    'too late',
  );
  const [only, ...rest] = await allOf(eventsOf(second, id));
  t.match(only, { event: 'done', id: '1', data: done });
  t.equal(rest.length, 0);
});

t.test(
  'a large output comes with GET and the last event, which wait for room, and not with a cancel',
  async (t) => {
    const { log, url } = await startSystem(t);
    const output = 'x'.repeat(300_000);
    const { task_id: id } = (await submit(url, { input: 'long', stream: false })).body;
    await settle(await take(log), 0, { answer: stringField(2, output) });
    t.match((await send(url, `/${id}`)).body, { state: 'done', status: 'SUCCESS', output });
    const [only] = await allOf(eventsOf(url, id));
    t.match(only, { event: 'done', data: { output } });
    const { body } = await send(url, `/${id}`, { method: 'DELETE' });
    t.match(body, { state: 'done', output: undefined });
    const { task_id: streamed } = (await submit(url, { input: 'long' })).body;
    const lease = await take(log);
    for (let at = 0; at < 3; at++) await write(lease, 'y'.repeat(50_000));
    await settle(lease, 0);
    t.equal((await send(url, `/${streamed}`)).body['output'], 'y'.repeat(150_000));
  },
);

t.test('events resume by Last-Event-ID, and a new run voids the chunks of the one before', async (t) => {
  const { log, url, another } = await startSystem(t);
  const { task_id: id } = (await submit(url, { input: 'a story' })).body;
  const first = await take(log);
  await write(first, 'a', 'b');
  const seen: ServerEvent[] = [];
  for await (const event of eventsOf(url, id)) {
    seen.push(event);
    if (event.id === '2') break;
  }
  t.strictSame(seen.map(written), ['state - running', 'chunk 1 a', 'chunk 2 b']);

  await write(first, 'c');
  const { url: elsewhere } = await another();
  const resumed: string[] = [];
  for await (const event of eventsOf(elsewhere, id, '2')) {
    resumed.push(written(event));
    if (event.id === '3') break;
  }
  t.strictSame(resumed, ['state - running', 'chunk 3 c'], 'at another gateway, within the run');

  await first.lose('its replica was killed');
  const second = await take(log);
  await write(second, 'A', 'B');
  await settle(second, 0);
  const rest = await allOf(eventsOf(url, id, '3'));
  t.strictSame(rest.map(written), ['run 3 2', 'chunk 4 A', 'chunk 5 B', 'done 6 done']);
  t.match(rest.at(-1)!.data, { status: 'SUCCESS', run: 2, lost_runs: 1 });
  t.strictSame(await allOf(eventsOf(url, id, '6')), [], '204: nothing more comes');
  t.strictSame((await allOf(eventsOf(url, id, '5'))).map(written), ['done 6 done']);
  t.match((await send(url, `/${id}`)).body, { state: 'done', output: 'AB', status: 'SUCCESS' });
  t.match(await send(url, `/${id}/events`, { headers: { 'last-event-id': 'x' } }), {
    status: 422,
    body: { error: { field: 'Last-Event-ID' } },
  });
});

t.test('a failed, a dead and a cancelled task say why, as the errors of the API', async (t) => {
  const { log, url } = await startSystem(t);
  const failing = (await submit(url, { input: 'fails' })).body.task_id;
  const trailers = ['outrigger-reason', 'overloaded', 'x-data-bin', 'AAEC', 'bad name', 'x'];
  await settle(await take(log), 3, { statusMessage: 'input is too silly', trailers });
  const failed = await send(url, `/${failing}`);
  t.match(failed, {
    status: 200,
    body: {
      state: 'done',
      error: { code: 'INVALID_ARGUMENT', message: 'input is too silly', task_id: failing },
    },
  });
  t.notOk('output' in failed.body);
  t.match(await allOf(eventsOf(url, failing)), [
    { event: 'done', data: { error: { code: 'INVALID_ARGUMENT' } } },
  ]);

  const crashing = (await submit(url, { input: 'crashes' })).body.task_id;
  for (let run = 0; run < 2; run++) await (await take(log)).lose('its agent crashed');
  t.match((await send(url, `/${crashing}`)).body, {
    state: 'dead',
    cause: /crashed/,
    error: { code: 'UNAVAILABLE', message: /research agent gave no answer.*crashed/ },
  });

  const unwanted = (await submit(url, { input: 'unwanted' })).body.task_id;
  const running = await take(log);
  const cancelled = await send(url, `/${unwanted}`, { method: 'DELETE' });
  t.match(cancelled, { status: 200, body: { state: 'cancelled', error: { code: 'CANCELLED' } } });
  await new Promise<void>((resolve) => {
    if (running.cancelled.aborted) resolve();
    else running.cancelled.addEventListener('abort', () => resolve());
  });
  t.pass('its agent is told');

  for (const [state, id] of [
    ['done', failing],
    ['dead', crashing],
    ['cancelled', unwanted],
  ] as const)
    t.match((await send(url, `?state=${state}`)).body, { tasks: [{ task_id: id, state }] });
});

t.test('a list has pages, and callers see their own tasks', async (t) => {
  const { url } = await startSystem(t);
  const alice = { authorization: 'Bearer alice' };
  const ids: string[] = [];
  for (const input of ['1', '2', '3']) ids.unshift((await submit(url, { input }, alice)).body.task_id);
  type Page = { tasks: View[]; next_page?: string };
  const pageOf = async (query: string, headers: Fields = alice) =>
    (await send(url, query, { headers })).body as never as Page;
  const first = await pageOf('?limit=2');
  const second = await pageOf(`?limit=2&page=${first.next_page}`);
  t.strictSame(
    [...first.tasks, ...second.tasks].map(({ task_id }) => task_id),
    ids,
    'latest first',
  );
  t.notOk('next_page' in second);
  for (const headers of [{}, { authorization: 'Bearer bob' }]) {
    t.equal((await pageOf('', headers)).tasks.length, 0);
    for (const method of ['GET', 'DELETE'])
      t.equal((await send(url, `/${ids[0]}`, { method, headers })).status, 404);
    t.equal((await send(url, `/${ids[0]}/events`, { headers })).status, 404);
  }
  for (const [query, field] of [
    ['?state=lost', 'state'],
    ['?limit=0', 'limit'],
    ['?limit=201', 'limit'],
    ['?stat=done', 'stat'],
    ['?page=broken', 'page'],
  ])
    t.match(await send(url, query, { headers: alice }), { status: 422, body: { error: { field } } }, query!);
  t.equal((await send(url, '/unknown')).status, 404);
});

t.test('Idempotency-Key makes one task of several requests, and refuses another body', async (t) => {
  const { log, url, another } = await startSystem(t);
  const key = { 'idempotency-key': 'order-1' };
  const one = await submit(url, { input: 'x' }, key);
  const two = await submit((await another()).url, { input: 'x' }, key);
  t.equal(two.status, 202);
  t.equal(two.body.task_id, one.body.task_id);
  t.equal((await log.list({ limit: 10 })).records.length, 1);
  for (const body of [{ input: 'y' }, { input: 'x', max_tokens: 5 }, { input: 'x', stream: false }])
    t.match(await submit(url, body, key), {
      status: 422,
      body: { error: { code: 'ALREADY_EXISTS', field: 'Idempotency-Key' } },
    });
  t.not((await submit(url, { input: 'y' }, { 'idempotency-key': 'order-2' })).body.task_id, one.body.task_id);
  t.not(
    (await submit(url, { input: 'x' })).body.task_id,
    one.body.task_id,
    'without a key each request is a task',
  );
  t.match(await submit(url, { input: 'x' }, { 'idempotency-key': 'k'.repeat(257) }), { status: 422 });
});

t.test('without a bus the asynchronous routes say what to do', async (t) => {
  const { server } = await testAgent(t, {});
  const { outboundAddress } = (await startDataPlane(t, {})).sidecar;
  for (const address of [server.address, outboundAddress]) {
    const gateway = await createGateway(
      readGatewaySettings({ RESEARCH_AGENT_ADDR: address }),
      pino({ enabled: false }),
    );
    t.teardown(() => gateway.stop(0));
    const url = await gateway.app.listen({ host: '127.0.0.1', port: 0 });
    const id = 'x'.repeat(43);
    const answers = [await submit(url, { input: 'x' }), await send(url, `/${id}`), await send(url, '')];
    answers.push(await send(url, `/${id}/events`), await send(url, `/${id}`, { method: 'DELETE' }));
    for (const answer of answers)
      t.match(answer, { status: 501, body: { error: { code: 'UNIMPLEMENTED', message: /bus\.url/ } } });
  }
  const env = { GATEWAY_TASKS_ADDR: '127.0.0.1:1' };
  const gone = await createGateway(readGatewaySettings(env), pino({ enabled: false }));
  t.teardown(() => gone.stop(0));
  const answer = await submit(await gone.app.listen({ host: '127.0.0.1', port: 0 }), { input: 'x' });
  t.match(answer, { status: 503, body: { error: { code: 'UNAVAILABLE' } } });
  t.ok(answer.headers.get('retry-after'));
});
