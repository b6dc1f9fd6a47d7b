// An agent that serves several calls at once: each call of its own belongs to the one that it is made for.
import { join } from 'node:path';
import { Metadata, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { policiesOff, startDataPlane } from '../scripts/harness/data-plane.ts';
import { errorCode } from '../scripts/harness/h2-peer.ts';
import { chatAnswer, sendJson, startLlmProvider } from '../scripts/harness/llm/provider.ts';
import { startProcess, type TestProcess } from '../scripts/harness/process.ts';
import { RawClient, rawPaths, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { parseTimeout } from '../sidecar/grpc/timeout.ts';
import { PROCESS_TASK_PATH } from '../sidecar/task/task-message.ts';
import { chat, send } from './llm/send.ts';
import { ok, type Replica, silence, startReplica } from './support/answers.ts';
import { type ChainAgent, startChain } from './support/chain-agent.ts';
import { TaskCaller } from './support/task-caller.ts';
import { type SeenCall, taskRequest } from './support/upstream.ts';

t.setTimeout(120_000);

type Fields = Readonly<Record<string, string | Buffer>>;

const support = join(import.meta.dirname, 'support');
const KEY = 'outrigger-call';
/** Each caller has so much more time than the one before it. */
const STEP_MS = 14_000;
const traceOf = (n: number): string => `00-${String(n + 1).padStart(32, 'a')}-00000000000000ff-00`;

function metadataOf(fields: Fields): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(fields)) metadata.set(name, value);
  return metadata;
}

/** What an agent passes on, by name. */
function forwarded(from: Metadata, names: readonly string[]): Metadata {
  const metadata = new Metadata();
  for (const name of names) for (const value of from.get(name)) metadata.add(name, value);
  return metadata;
}

interface Fleet {
  readonly agent: ChainAgent;
  readonly inboundPort: number;
  readonly leaf: Replica;
  /** Calls the leaf for each of its own once `together` of those are there, and passes on these headers. */
  readonly passesOn: (names: readonly string[], together: number) => void;
}

async function startFleet(t: Test, inbound: Record<string, unknown> = {}): Promise<Fleet> {
  const leaf = await startReplica(t, ok);
  const { agent } = (await startChain(t, {
    names: ['agent'],
    others: { leaf: leaf.address },
    inbound,
  })) as Record<'agent', ChainAgent>;
  let ids = 0;
  const passesOn = (names: readonly string[], together: number): void => {
    const first = agent.tasks.length;
    agent.onTask = async (task, { call, tasks }) => {
      await waitUntil('all are there', () => tasks.length >= first + together);
      const input = /caller-\d+/.exec(task.request.toString())![0];
      const { response } = await call(
        'leaf',
        taskRequest({ id: `own-${ids++}`, input }),
        forwarded(task.metadata, names),
      );
      return response ?? Buffer.alloc(0);
    };
  };
  return { agent, inboundPort: agent.inboundPort, leaf, passesOn };
}

const callerOf = ({ body }: SeenCall): number => Number(/caller-(\d+)/.exec(body.toString())?.[1] ?? -1);

/** Each caller gives its call another token budget, half of which must arrive at the leaf, with the time that it has. */
async function askAll(
  t: Test,
  { inboundPort, leaf }: Pick<Fleet, 'inboundPort' | 'leaf'>,
  callers: readonly Fields[],
  what: string,
): Promise<SeenCall[]> {
  const client = new RawClient(t, inboundPort);
  const before = leaf.calls.length;
  // Nobody is answered before all have called: who is left alone is known by that.
  const held: SeenCall[] = [];
  leaf.answer = (_, call) => {
    if (held.push(call) === callers.length) for (const each of held) ok(each.stream, each);
  };
  const outcomes = await Promise.all(
    callers.map((fields, i) =>
      client.unary(taskRequest({ id: `task ${what} ${i}`, input: `caller-${i}` }), {
        path: PROCESS_TASK_PATH,
        metadata: metadataOf({ ...fields, 'outrigger-token-budget': String(1_000 * (i + 1)) }),
        deadline: Date.now() + STEP_MS * (i + 1),
      }),
    ),
  );
  client.client.close();
  t.ok(
    outcomes.every(({ code }) => code === status.OK),
    what,
  );
  return leaf.calls.slice(before).sort((a, b) => callerOf(a) - callerOf(b));
}

const budgetsOf = (calls: readonly SeenCall[]) =>
  calls.map(({ headers }) => headers['outrigger-token-budget']);

function isEachOwn(t: Test, calls: readonly SeenCall[], what: string): void {
  t.strictSame(
    budgetsOf(calls),
    calls.map((_, i) => String(500 * (i + 1))),
    `${what}: budgets`,
  );
  for (const [i, { headers }] of calls.entries()) {
    const leftMs = parseTimeout(String(headers['grpc-timeout']));
    // Callers may come late on a busy machine, but none has as much as the one behind it.
    t.ok(leftMs <= STEP_MS * (i + 1), `${what}: ${leftMs} ms are left of caller ${i}'s time`);
    t.notMatch(headers['baggage'] ?? '', KEY, 'our name for a call is nothing for others');
  }
}

t.test("any forwarded header relates an agent's calls to their owners", async (t) => {
  const fleet = await startFleet(t);
  const hex = (n: number, digits: number) => String(n + 1).padStart(digits, 'b');
  const ids: [what: string, passed: readonly string[], fields: (n: number) => Fields][] = [
    ['baggage, which nobody has sent', ['baggage'], () => ({})],
    ['baggage with members of the caller', ['baggage'], (n) => ({ baggage: `tenant=t${n};p=1 , x=%20` })],
    ['traceparent', ['traceparent'], (n) => ({ traceparent: traceOf(n) })],
    ['x-request-id', ['x-request-id'], (n) => ({ 'x-request-id': `request ${n}` })],
    ['b3', ['b3'], (n) => ({ b3: `${hex(n, 16)}-${hex(n, 16)}-1` })],
    [
      'B3 in several',
      ['x-b3-traceid', 'x-b3-spanid'],
      (n) => ({ 'x-b3-traceid': hex(n, 32), 'x-b3-spanid': hex(n, 16) }),
    ],
    [
      'x-cloud-trace-context',
      ['x-cloud-trace-context'],
      (n) => ({ 'x-cloud-trace-context': `${hex(n, 32)}/1;o=1` }),
    ],
    ['uber-trace-id', ['uber-trace-id'], (n) => ({ 'uber-trace-id': `${hex(n, 20)}:1:0:1` })],
    [
      'x-amzn-trace-id',
      ['x-amzn-trace-id'],
      (n) => ({ 'x-amzn-trace-id': `Self=1;Root=1-${hex(n, 8)}-${hex(n, 24)}` }),
    ],
    [
      'grpc-trace-bin',
      ['grpc-trace-bin'],
      (n) => ({ 'grpc-trace-bin': Buffer.from(`0000${hex(n, 32)}01${hex(n, 16)}0201`, 'hex') }),
    ],
  ];
  for (const [what, passed, fieldsOf] of ids) {
    fleet.passesOn(passed, 4);
    const callers = [0, 1, 2, 3].map((n) => fieldsOf(n));
    const calls = await askAll(t, fleet, callers, what);
    isEachOwn(t, calls, what);
    for (const [i, { headers }] of calls.entries())
      t.equal(headers['baggage'], callers[i]!['baggage'], "the callers' baggage stays");
  }
  const seen = fleet.agent.tasks.map(({ metadata }) => String(metadata.get('baggage')));
  t.equal(
    fleet.agent.tasks.filter(({ metadata }) => metadata.get('baggage').length > 1).length,
    0,
    'one field',
  );
  t.match(seen[0], /^outrigger-call=[\da-f]{24}$/);
  t.match(seen[4], /^tenant=t\d;p=1 , x=%20,outrigger-call=[\da-f]{24}$/);
  t.equal(new Set(seen.filter((text) => text !== '')).size, 4 * (ids.length - 1), 'no name is given twice');
  for (const task of fleet.agent.tasks.slice(8, 12)) {
    t.strictSame(task.metadata.get('baggage'), [], 'a call with a trace needs no name');
    t.equal(task.metadata.get('traceparent').length, 1);
  }
  t.ok(
    fleet.agent.tasks.slice(0, 8).every(({ metadata }) => metadata.get('traceparent').length === 0),
    'no trace is made',
  );
});

t.test('calls of an agent that forwards nothing have no owner while several run', async (t) => {
  const fleet = await startFleet(t);
  fleet.passesOn([], 3);
  t.strictSame(budgetsOf(await askAll(t, fleet, [{}, {}, {}], 'three')), [undefined, undefined, undefined]);
  fleet.passesOn([], 1);
  isEachOwn(t, await askAll(t, fleet, [{}], 'one'), 'one alone');
});

t.test('concurrent calls of one trace get names, also after one remains', async (t) => {
  const fleet = await startFleet(t);
  const traceparent = traceOf(7);
  fleet.passesOn(['traceparent', 'baggage'], 3);
  await askAll(t, fleet, Array(3).fill({ traceparent }), 'the first time');
  fleet.passesOn(['traceparent', 'baggage'], 3);
  isEachOwn(t, await askAll(t, fleet, Array(3).fill({ traceparent }), 'from then on'), 'from then on');
  fleet.passesOn(['traceparent'], 3);
  const calls = await askAll(t, fleet, Array(3).fill({ traceparent }), 'without baggage');
  for (const { headers } of calls)
    t.ok(
      parseTimeout(String(headers['grpc-timeout'])) > 2 * STEP_MS,
      'all have the time of the one that has most',
    );
});

/** Callers whose frames are the test's own, each with a task that waits for the leaf. */
async function startSilent(t: Test, passed: readonly string[], callers: readonly Fields[]) {
  const fleet = await startFleet(t);
  const { agent, leaf } = fleet;
  leaf.answer = silence;
  fleet.passesOn(passed, callers.length);
  const caller = await TaskCaller.connect(t, agent.inboundPort);
  const sent = [];
  for (const [i, fields] of callers.entries())
    sent.push(
      await caller.send({
        id: `silent ${i}`,
        input: `caller-${i}`,
        fields: Object.entries(fields) as [string, string][],
      }),
    );
  const at = (n: number) => leaf.calls.find((call) => call.complete && callerOf(call) === n)!;
  await waitUntil('the leaf has all', () => callers.every((_, i) => at(i) !== undefined));
  return { ...fleet, sent, at };
}

t.test('cancellation ends the dependents of a call, and no others', async (t) => {
  for (const passed of ['baggage', 'x-request-id']) {
    const { sent, at } = await startSilent(
      t,
      [passed],
      [0, 1, 2].map((n) => ({ 'x-request-id': `${n}` })),
    );
    await sent[1]!.cancel();
    await waitUntil('the leaf heard', () => at(1).closedWith === errorCode.cancel);
    for (const n of [0, 2]) {
      t.equal(at(n).closedWith, undefined, passed);
      ok(at(n).stream, at(n));
      t.equal((await sent[n]!.ended()).status, status.OK, passed);
    }
  }
});

t.test('of several calls that share an id, none ends the others', async (t) => {
  const shared = { traceparent: traceOf(1), 'x-request-id': 'the same' };
  for (const passed of ['traceparent', 'x-request-id']) {
    const { agent, sent, at } = await startSilent(t, [passed], [shared, shared, shared]);
    await sent[2]!.cancel();
    await waitUntil('the call is over', () => agent.plane.sidecar.inbound.stats.activeCalls === 2);
    for (const n of [0, 1]) {
      ok(at(n).stream, at(n));
      t.equal((await sent[n]!.ended()).status, status.OK, passed);
    }
    t.equal(at(2).closedWith, undefined, 'work that may belong to a continuing call continues');
  }
});

t.test('only its own sidecar can name a call', async (t) => {
  const { agent, at, leaf, sent, passesOn } = await startSilent(t, ['baggage'], [{}]);
  const name = String(agent.tasks[0]!.metadata.get('baggage')[0]);
  leaf.answer = ok;
  const [, id = ''] = name.split('=');
  const forged = [
    name,
    `${name};x=1`,
    `a=1, ${name}`,
    `outrigger%2Dcall=${id}`,
    `%6futrigger-call = ${id}`,
    `+outrigger-c%61ll=${id}`,
    `%zz=1,outrigger%2dcall=${id},b=2`,
    `${KEY}=${'0'.repeat(24)}`,
    `${KEY}=${id.slice(0, 16)}${'0'.repeat(8)}`,
    KEY,
  ];
  for (const traceparent of [undefined, traceOf(3)]) {
    for (const baggage of forged) {
      passesOn(['baggage'], 1);
      const client = new RawClient(t, agent.inboundPort);
      const fields: Fields = traceparent === undefined ? { baggage } : { baggage, traceparent };
      await client.unary(taskRequest({ id: `forged ${baggage} ${traceparent}`, input: 'caller-9' }), {
        path: PROCESS_TASK_PATH,
        metadata: metadataOf(fields),
      });
      client.client.close();
      const given = decodeURIComponent(
        String(agent.tasks.at(-1)!.metadata.get('baggage')).replace('%zz', ''),
      );
      t.notMatch(given, id, `the agent does not see ${baggage}`);
      const names = given.match(/outrigger-call/g) ?? [];
      t.equal(names.length, traceparent === undefined ? 1 : 0, given);
      if (baggage.includes('b=2')) t.match(given, /=1,b=2/, 'other members stay');
    }
  }
  t.equal(at(0).closedWith, undefined);
  ok(at(0).stream, at(0));
  t.equal((await sent[0]!.ended()).status, status.OK);

  // What the agent itself says of a call that is over, or of none of ours.
  const budget = { 'outrigger-token-budget': '1000' };
  agent.onTask = async (task, { call }) => {
    for (const baggage of [
      name,
      `${KEY}=${id.slice(0, 16)}${'0'.repeat(8)}`,
      `${KEY}=${'f'.repeat(24)}`,
      `${KEY}=x`,
    ])
      await call('leaf', taskRequest({ id: `own ${baggage}` }), metadataOf({ baggage }));
    return task.request;
  };
  const client = new RawClient(t, agent.inboundPort);
  await client.unary(taskRequest({ id: 'later' }), { path: PROCESS_TASK_PATH, metadata: metadataOf(budget) });
  t.strictSame(
    budgetsOf(leaf.calls.slice(-4)),
    [undefined, undefined, '500', '250'],
    'a call that is over owns nothing; what names none of ours is as if it were not there',
  );
});

t.test('full baggage gets no name, and a setting turns names off', async (t) => {
  const full = `a=${'x'.repeat(8_160)}`;
  const { agent, leaf, passesOn } = await startFleet(t);
  const ask = async (to: ChainAgent, id: string, fields: Fields) => {
    const client = new RawClient(t, to.inboundPort);
    await client.unary(taskRequest({ id, input: 'caller-0' }), {
      path: PROCESS_TASK_PATH,
      metadata: metadataOf(fields),
    });
    return to.tasks.at(-1)!.metadata.get('baggage');
  };
  passesOn(['baggage'], 1);
  t.strictSame(await ask(agent, 'full', { baggage: full }), [full]);
  t.equal(leaf.calls.at(-1)!.headers['baggage'], full);
  t.match(await ask(agent, 'nearly', { baggage: full.slice(50) }), [/x,outrigger-call=/]);
  for (const empty of ['', ' ']) {
    const given = await ask(agent, `empty ${empty}`, { baggage: empty });
    t.match(given, [/^outrigger-call=[\da-f]{24}$/]);
    t.equal(given.length, 1, 'one field, also where the caller sends an empty one');
  }

  const off = await startFleet(t, { call_baggage: false });
  off.passesOn(['baggage'], 1);
  t.strictSame(await ask(off.agent, 'none', {}), []);
  const forged = `a=1,${KEY}=${'0'.repeat(24)}`;
  t.strictSame(await ask(off.agent, 'forged', { baggage: forged }), ['a=1']);
});

t.test('a model request belongs to its call, and the provider does not see the name', async (t) => {
  const provider = await startLlmProvider();
  t.teardown(() => provider.close());
  const url = provider.script('models', (request, response) => {
    if (request.headers['x-caller'] === 'answer') sendJson(response, 200, chatAnswer());
  });
  const calls: { metadata: Metadata; answer: () => void }[] = [];
  const app = await startRawServer(t, {
    unary: ({ metadata, request }, callback) => {
      calls.push({ metadata, answer: () => callback(null, request) });
    },
  });
  const plane = await startDataPlane(t, {
    inbound: { app: app.address },
    llm: { upstreams: [{ name: 'one', url }] },
  });
  const client = new RawClient(t, plane.inboundPort);
  const inbound = ['100', '100000'].map((budget) => {
    const metadata = metadataOf({ 'outrigger-token-budget': budget, baggage: 'tenant=blue' });
    const identity = (bytes: Buffer): Buffer => bytes;
    return client.client.makeUnaryRequest(
      rawPaths.unary,
      identity,
      identity,
      Buffer.alloc(0),
      metadata,
      () => {},
    );
  });
  await waitUntil('both run', () => calls.length === 2);
  const baggageOf = (n: number) => String(calls[n]!.metadata.get('baggage')[0]);
  const byBudget = calls.map(({ metadata }) => String(metadata.get('outrigger-token-budget')[0]));
  const [small, large] = [byBudget.indexOf('100'), byBudget.indexOf('100000')];
  const base = plane.sidecar.llmAddress;
  const ask = (n: number, caller: string) =>
    send(`http://${base}/v1`, '/chat/completions', chat({ max_tokens: 500 }), {
      baggage: baggageOf(n),
      'x-caller': caller,
    });
  t.match((await ask(small, 'answer').answer).body.toString(), /budget_exhausted/);
  t.equal((await ask(large, 'answer').answer).status, 200);
  t.equal(provider.requests('models').length, 1);
  t.equal(provider.requests('models')[0]!.headers['baggage'], 'tenant=blue');
  // Its call's end ends it, and the other one's does not.
  const waits = ask(large, 'silence');
  await waitUntil('the provider has it', () => provider.requests('models').length === 2);
  inbound[0]!.cancel();
  await waitUntil('the call is over', () => plane.sidecar.inbound.stats.activeCalls === 1);
  t.notOk(provider.requests('models')[1]!.aborted);
  inbound[1]!.cancel();
  await waitUntil('the provider sees the end', () => provider.requests('models')[1]!.aborted);
  await waits.answer.catch(() => {});
});

t.test("agents with OpenTelemetry's SDK forward the name by default", async (t) => {
  const agents: Record<string, { skip: string | false; start: (outbound: string) => TestProcess }> = {
    'Node and grpc-js': {
      skip: false,
      start: (outbound) =>
        startProcess(t, process.execPath, [join(support, 'opentelemetry-agent.ts'), outbound]),
    },
    'Python and grpcio': {
      skip: skipWithout('python-opentelemetry'),
      start: (outbound) =>
        startProcess(t, requireTool('python-opentelemetry'), [
          join(support, 'python/opentelemetry_agent.py'),
          outbound,
        ]),
    },
  };
  for (const [what, { skip, start }] of Object.entries(agents)) {
    t.test(what, { skip }, async (t) => {
      const leaf = await startReplica(t, ok);
      const settings = (app: string) => ({
        inbound: { app },
        outbound: { clusters: { leaf: { endpoints: [leaf.address], ...policiesOff } } },
      });
      const plane = await startDataPlane(t, settings('127.0.0.1:1'));
      const agent = start(`127.0.0.1:${plane.outboundPort}`);
      const port = await waitUntil('the agent said its port', () => /^(\d+)$/m.exec(agent.logs())?.[1]);
      await plane.apply(settings(`127.0.0.1:${port}`));
      const callers = [{}, { baggage: 'tenant=blue' }, { 'x-request-id': '7' }];
      const calls = await askAll(t, { leaf, inboundPort: plane.inboundPort }, callers, what);
      isEachOwn(t, calls, what);
      t.strictSame(
        calls.map(({ headers }) => headers['baggage']),
        [undefined, 'tenant=blue', undefined],
      );
      t.ok(
        calls.every(({ headers }) => headers['traceparent'] !== undefined),
        'each agent began its own traces, because there was none to continue',
      );
    });
  }
});
