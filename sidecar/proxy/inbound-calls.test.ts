/** Tests how an outbound call finds the inbound call that it is made for. */
import t from 'tap';
import { HeaderList } from '../http2/hpack/header-list.ts';
import { callerScope, scopeDigest } from './caller-scope.ts';
import type { InboundCall } from './inbound-call.ts';
import { InboundCalls } from './inbound-calls.ts';
import { Lineage } from './lineage.ts';
import { RequestInfo } from './request-info.ts';

type Fields = Readonly<Record<string, string>>;
type CallChanges = Partial<InboundCall> & { readonly callPath?: string };

const traceOf = (digit: string): string => `00-${digit.repeat(32)}-00000000000000ff-00`;

function infoOf(fields: Fields): RequestInfo {
  return new RequestInfo(
    new HeaderList(['content-type', 'application/grpc', ...Object.entries(fields).flat()]),
  );
}

/** A call of the caller `by` with these fields. */
function callOf(
  { task, by = '', ...fields }: Record<string, string>,
  { callPath = '', ...more }: CallChanges = {},
): InboundCall {
  const lineage = new Lineage();
  lineage.comeThrough(callPath);
  return {
    info: infoOf(fields),
    callerScope: by,
    trace: null,
    task: task === undefined ? undefined : { taskId: task, correlationId: '' },
    clock: { deadlineMs: 0 },
    tokenBudget: -1,
    moneyBudget: -1,
    lineage,
    role: { run: undefined },
    ...more,
  };
}

function running(...calls: readonly InboundCall[]): InboundCalls {
  const all = new InboundCalls();
  for (const call of calls) all.add(call, true);
  return all;
}

t.test('an id that calls of two callers share proves nothing', async (t) => {
  const victim = { traceparent: traceOf('a'), task: 'T', by: 'alice' };
  const stream = { traceparent: traceOf('a'), by: 'alice' };
  const asks: [
    what: string,
    victim: Record<string, string>,
    other: Record<string, string>,
    asks: Fields,
    by: string,
  ][] = [
    ['the same task', victim, { task: 'T', by: 'bob' }, { 'x-task-id': 'T' }, 'contested'],
    [
      'the same trace',
      victim,
      { traceparent: traceOf('a'), by: 'bob' },
      { traceparent: traceOf('a') },
      'contested',
    ],
    [
      'all the same',
      victim,
      { ...victim, by: 'bob' },
      { traceparent: traceOf('a'), 'x-task-id': 'T' },
      'contested',
    ],
    [
      'the same task in another trace',
      victim,
      { traceparent: traceOf('b'), task: 'T', by: 'bob' },
      { traceparent: traceOf('a'), 'x-task-id': 'T' },
      'named',
    ],
    [
      'another task of the same trace',
      victim,
      { traceparent: traceOf('a'), task: 'U', by: 'bob' },
      { traceparent: traceOf('a'), 'x-task-id': 'T' },
      'named',
    ],
    [
      'a task where the call itself has none',
      stream,
      { task: 'T', by: 'bob' },
      { traceparent: traceOf('a'), 'x-task-id': 'T' },
      'contested',
    ],
    [
      'such a task, in the same trace',
      stream,
      { traceparent: traceOf('a'), task: 'T', by: 'bob' },
      { traceparent: traceOf('a'), 'x-task-id': 'T' },
      'contested',
    ],
    [
      "the agent's own request id",
      { traceparent: traceOf('a'), 'x-request-id': '1', by: 'alice' },
      { traceparent: traceOf('a'), task: 'T', by: 'bob' },
      { traceparent: traceOf('a'), 'x-task-id': 'T', 'x-request-id': '2' },
      'contested',
    ],
    [
      'nothing in common',
      victim,
      { traceparent: traceOf('b'), by: 'bob' },
      { traceparent: traceOf('a') },
      'named',
    ],
  ];
  for (const [what, one, other, request, by] of asks) {
    for (const turned of [false, true]) {
      const [alices, bobs] = [
        callOf(one, { tokenBudget: 10 }),
        callOf(other, { clock: { deadlineMs: 1 }, tokenBudget: 1 }),
      ];
      const calls = turned ? running(bobs, alices) : running(alices, bobs);
      const owner = calls.ownerOf(infoOf(request), '', '');
      t.equal(owner?.by, by, what);
      t.equal(owner?.call, by === 'named' ? alices : undefined, what);
      if (by === 'contested') t.match(owner, { callPath: '', deadlineMs: 0, callerScope: undefined }, what);
      // The attacker left, and its calls have no effect any more.
      calls.delete(bobs);
      t.equal(calls.ownerOf(infoOf(request), '', '')?.call, alices, `${what}, alone again`);
    }
  }
});

t.test(
  "a subtask's id alone proves nothing while several callers have calls, because the agent chooses it",
  async (t) => {
    const alice = callOf({ task: 'T', by: 'alice' });
    const guess = callOf({ task: 'T-1', by: 'bob' });
    const calls = running(alice, guess);
    t.equal(calls.ownerOf(infoOf({}), 'T-1', '')?.by, 'contested');
    t.equal(calls.ownerOf(infoOf({}), 'T-2', ''), undefined, 'nobody has it');
    const own = callOf({ task: 'T', by: 'alice' });
    t.equal(running(own, callOf({ task: 'T-1', by: 'alice' })).ownerOf(infoOf({}), 'T', '')?.call, own);
    // Among calls of one caller that a head names together, the task's id decides.
    const [one, two] = [
      callOf({ traceparent: traceOf('a'), task: '1', by: 'alice' }),
      callOf({ traceparent: traceOf('a'), task: '2', by: 'alice' }),
    ];
    const several = running(one, two, callOf({ task: 'T-1', by: 'bob' }));
    const request = infoOf({ traceparent: traceOf('a') });
    t.equal(several.ownerOf(request, '2', '')?.call, two);
    t.equal(
      several.ownerOf(request, 'T-1', '')?.by,
      'one_of_several',
      'and the calls of others do not count',
    );
  },
);

t.test('several calls of one caller give the request only the facts that they share', async (t) => {
  const fields = { traceparent: traceOf('a'), by: 'alice' };
  const of = (...more: CallChanges[]) =>
    running(...more.map((each) => callOf(fields, each))).ownerOf(infoOf(fields), '', '');
  const paths = { callPath: 'a,b' };
  t.strictSame(
    of({ ...paths, clock: { deadlineMs: 5 } }, { ...paths, clock: { deadlineMs: 9 }, tokenBudget: 1 }),
    {
      call: undefined,
      by: 'one_of_several',
      callerScope: 'alice',
      callPath: 'a,b',
      deadlineMs: 9,
    },
  );
  t.match(of({ ...paths, clock: { deadlineMs: 5 } }, { callPath: 'x' }), { callPath: '', deadlineMs: 0 });
});

t.test('calls get names once two callers have used one id, and a name decides before all ids', async (t) => {
  const calls = new InboundCalls();
  const alice = callOf({ traceparent: traceOf('a'), task: 'T', by: 'alice' });
  calls.add(alice, true);
  t.equal(alice.lineage.nonce, 0, 'its trace tells it apart');
  calls.delete(alice);
  calls.add(alice, true);
  const bob = callOf({ traceparent: traceOf('b'), task: 'T', by: 'bob' });
  calls.add(bob, true);
  t.not(bob.lineage.nonce, 0);
  const hex = (value: number): string => (value >>> 0).toString(16).padStart(8, '0');
  const name = `outrigger-call=${hex(calls.process)}${hex(bob.lineage.place)}${hex(bob.lineage.nonce)}`;
  const request = infoOf({ traceparent: traceOf('a'), 'x-task-id': 'T', baggage: name });
  t.equal(calls.ownerOf(request, '', '')?.call, bob);
  calls.delete(bob);
  t.equal(calls.ownerOf(request, '', ''), undefined, 'it is over');
});

t.test('ids find the owner while callers come and go', async (t) => {
  const calls = new InboundCalls();
  const all = Array.from({ length: 30 }, (_, i) => callOf({ task: `${i}`, by: `caller ${i % 3}` }));
  const isSure = (id: string): boolean => calls.ownerOf(infoOf({}), id, '')?.by === 'named';
  for (const call of all) calls.add(call, false);
  t.notOk(isSure('1'));
  for (const call of all) if (call.callerScope !== 'caller 1') calls.delete(call);
  t.ok(isSure('1'), 'of one caller again, which was not the first one');
  calls.add(all[0]!, false);
  t.notOk(isSure('1'));
  for (const call of all) if (call.callerScope === 'caller 1') calls.delete(call);
  t.ok(isSure('0'));
  calls.delete(all[0]!);
  t.equal(calls.size, 0);
  t.equal(calls.ownerOf(infoOf({}), '0', ''), undefined);
});

t.test('certificate, authorization and scope headers tell callers apart', async (t) => {
  const names = ['x-api-key', 'cookie'];
  const of = (identity: string, ...fields: string[]) => callerScope(identity, new HeaderList(fields), names);
  t.equal(of('', 'x-other', '1'), '');
  t.equal(scopeDigest(''), '');
  const alike: [string, string][] = [
    [
      of('', 'authorization', 'a', 'x-api-key', 'k'),
      of('', 'x-api-key', 'k', 'x-try', '2', 'authorization', ' a '),
    ],
    [of('', 'cookie', 'a=1; b=2'), of('', 'cookie', 'a=1', 'cookie', 'b=2')],
  ];
  for (const [one, other] of alike) t.equal(one, other);
  const different = [
    of(''),
    of('spiffe://a'),
    of('spiffe://b'),
    of('', 'authorization', ''),
    of('', 'authorization', 'a'),
    of('', 'authorization', 'a', 'authorization', 'b'),
    of('', 'authorization', 'b', 'authorization', 'a'),
    of('', 'authorization', 'b'),
    of('', 'authorization', 'a,b'),
    of('', 'authorization', 'a', 'x-api-key', 'b'),
    of('', 'x-api-key', 'a', 'x-api-key', 'b'),
    of('', 'x-api-key', 'a'),
    of('', 'cookie', 'a'),
    of('spiffe://a', 'cookie', 'a'),
    of('["spiffe://a"'),
  ];
  t.equal(new Set(different).size, different.length, different.join('\n'));
  t.equal(new Set(different.map(scopeDigest)).size, different.length);
  // A reload of the names applies to heads that were seen before.
  const info = infoOf({ 'x-user': 'alice' });
  t.equal(info.scopeBy(names, ''), '');
  info.taskScope = 'old';
  t.not(info.scopeBy(['x-user'], ''), '');
  t.equal(info.taskScope, undefined);
});

t.test('a request left over from an ended call does not belong to the only running call', async (t) => {
  const calls = new InboundCalls();
  const fields = { traceparent: traceOf('a'), 'x-request-id': '1', task: 'T', by: 'alice' };
  const [alice, bob] = [callOf(fields), callOf({ traceparent: traceOf('b'), by: 'bob' })];
  calls.add(bob, false);
  const left = [{ traceparent: traceOf('a') }, { 'x-task-id': 'T' }, { 'x-request-id': '1' }];
  for (const ids of [{}, ...left]) t.equal(calls.ownerOf(infoOf(ids), '', '')?.by, 'alone', 'not known yet');
  calls.add(alice, false);
  calls.delete(alice);
  for (const ids of left) t.equal(calls.ownerOf(infoOf(ids), '', ''), undefined);
  for (const ids of [{}, { 'x-task-id': 'U' }, { traceparent: traceOf('c') }])
    t.equal(calls.ownerOf(infoOf(ids), '', '')?.by, 'alone');
});
