/** Tests what the end of an attempt says about its endpoint and about a retry. */

import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { STATUS_NAMES, Status, type StatusCode, type StatusName } from '../grpc/status.ts';
import { type AttemptEnd, type EndKind, neverReachedApp, Progress } from './attempt-end.ts';
import { NotAgain } from './pushback.ts';
import { REASONS } from './reasons.ts';
import { type VerdictOptions, verdictForCircuit, verdictOf } from './verdict.ts';
import { VERDICTS, type VerdictReason } from './verdicts.ts';

const UNARY_OK: AttemptEnd = {
  kind: 'status',
  status: Status.OK,
  code: 0,
  progress: Progress.MESSAGE,
  unprocessed: false,
  streaming: false,
  answerOwed: true,
  deadlineOwner: 'configured',
  allowedMs: 60_000,
  elapsedMs: 40,
  requestIrregular: false,
  peerReason: '',
  pushbackMs: undefined,
  notAgain: NotAgain.NOBODY,
  goingAway: false,
  taskFailure: 'none',
};
const AGENTS: VerdictOptions = { taskStatusIsVerdict: true, usualLatencyMs: 1000 };

/** For the end of an attempt, the four kinds of RPC differ only in whether the response is a stream. */
const KINDS_OF_RPC = [
  { rpc: 'unary', streaming: false },
  { rpc: 'client streaming', streaming: false },
  { rpc: 'server streaming', streaming: true },
  { rpc: 'bidirectional streaming', streaming: true },
];

const seen = new Set<VerdictReason>();

function judge(end: Partial<AttemptEnd>, options: Partial<VerdictOptions> = {}): string {
  const verdict = verdictOf({ ...UNARY_OK, ...end }, { ...AGENTS, ...options });
  seen.add(verdict.reason);
  if (verdict !== VERDICTS[verdict.reason]) throw new Error(`${verdict.reason} was made anew`);
  return `${verdict.outcome} ${verdict.reason}${verdict.cooldown ? ' cooldown' : ''}`;
}

t.test('each gRPC status, in headers and in trailers, for each kind of RPC', async (t) => {
  const table: Record<StatusName, string> = {
    OK: 'success ok',
    CANCELLED: 'neutral cancelled_by_app',
    UNKNOWN: 'failure unknown',
    INVALID_ARGUMENT: 'success answered',
    DEADLINE_EXCEEDED: 'failure deadline_exceeded',
    NOT_FOUND: 'success answered',
    ALREADY_EXISTS: 'success answered',
    PERMISSION_DENIED: 'success answered',
    RESOURCE_EXHAUSTED: 'neutral back_pressure cooldown',
    FAILED_PRECONDITION: 'success answered',
    ABORTED: 'success answered',
    OUT_OF_RANGE: 'success answered',
    UNIMPLEMENTED: 'success answered',
    INTERNAL: 'failure internal',
    UNAVAILABLE: 'failure unavailable',
    DATA_LOSS: 'failure data_loss',
    UNAUTHENTICATED: 'success answered',
  };
  for (const name of STATUS_NAMES) {
    for (const { rpc, streaming } of KINDS_OF_RPC) {
      for (const progress of [Progress.SENT, Progress.MESSAGE]) {
        const where = progress === Progress.MESSAGE ? 'in trailers' : 'in headers';
        t.equal(
          judge({ status: Status[name], streaming, progress }),
          table[name],
          `${name} ${where}, ${rpc}`,
        );
      }
    }
  }
});

t.test('a stream is judged at its first message, and again at its end', async (t) => {
  const first = { kind: 'first_message', streaming: true } as const;
  t.equal(judge(first), 'success first_message');
  t.equal(judge({ kind: 'first_message' }), 'neutral undecided', 'a message of a unary RPC is no answer yet');
  const after = { streaming: true, progress: Progress.MESSAGE } as const;
  t.equal(judge({ ...after }), 'success ok');
  t.equal(
    judge({ ...after, kind: 'connection_lost', status: Status.UNAVAILABLE }),
    'failure connection_lost',
  );
  t.equal(judge({ ...after, kind: 'no_status', status: Status.INTERNAL }), 'failure no_status');
  t.equal(judge({ ...after, kind: 'reset', code: 2, status: Status.INTERNAL }), 'failure reset');
  t.equal(judge({ ...after, kind: 'idle', status: Status.DEADLINE_EXCEEDED }), 'failure idle_timeout');
  t.equal(judge({ ...after, kind: 'cancelled', status: Status.CANCELLED }), 'neutral cancelled');
  t.equal(judge({ streaming: true, progress: Progress.SENT }), 'success ok', 'a stream without messages');
});

t.test('each end on the wire has its verdict', async (t) => {
  const cases: [Partial<AttemptEnd>, string][] = [
    [{ kind: 'no_status' }, 'failure no_status'],
    [{ kind: 'http_status', code: 503 }, 'failure not_grpc'],
    ...[301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 413, 415, 431, 499].map(
      (code): [Partial<AttemptEnd>, string] => [{ kind: 'http_status', code }, 'neutral caller_error'],
    ),
    ...[200, 204, 408, 421, 425, 500, 501, 502, 504].map((code): [Partial<AttemptEnd>, string] => [
      { kind: 'http_status', code },
      'failure not_grpc',
    ]),
    [{ kind: 'http_status', code: 429 }, 'neutral back_pressure cooldown'],
    [{ kind: 'reset', code: 0 }, 'failure reset'],
    [{ kind: 'reset', code: 2 }, 'failure reset'],
    [{ kind: 'reset', code: 8 }, 'failure reset'],
    [{ kind: 'reset', code: 7, unprocessed: true }, 'neutral refused cooldown'],
    [{ kind: 'reset', code: 11 }, 'neutral back_pressure cooldown'],
    [{ kind: 'goaway', code: 0, unprocessed: true }, 'neutral going_away'],
    [{ kind: 'goaway', code: 11, unprocessed: true }, 'neutral going_away'],
    [{ kind: 'goaway', code: 1, unprocessed: true }, 'failure goaway_error'],
    [{ kind: 'connection_lost', progress: Progress.SENT }, 'failure connection_lost'],
    [{ kind: 'connection_lost', progress: Progress.MESSAGE }, 'failure connection_lost'],
    [{ kind: 'connection_lost', unprocessed: true }, 'neutral not_sent'],
    [{ kind: 'protocol' }, 'failure protocol'],
    [{ kind: 'no_connection', unprocessed: true }, 'failure connect_failed'],
    [{ kind: 'own_limit', unprocessed: true }, 'neutral own_limit'],
    [{ kind: 'per_try', progress: Progress.SENT }, 'failure per_try_timeout'],
    [{ kind: 'per_try', progress: Progress.CONNECTING }, 'failure per_try_timeout'],
    [{ kind: 'per_try', progress: Progress.QUEUED }, 'neutral not_sent'],
    [{ kind: 'first_chunk', progress: Progress.SENT }, 'failure first_chunk_timeout'],
    [{ kind: 'first_chunk', progress: Progress.QUEUED }, 'neutral not_sent'],
    [{ kind: 'idle' }, 'failure idle_timeout'],
    [{ kind: 'idle', progress: Progress.QUEUED }, 'neutral not_sent'],
    [{ kind: 'idle', answerOwed: false }, 'neutral awaited_caller'],
    [{ kind: 'first_chunk', answerOwed: false, progress: Progress.SENT }, 'neutral awaited_caller'],
    [{ kind: 'per_try', answerOwed: false, progress: Progress.SENT }, 'neutral awaited_caller'],
    [{ kind: 'cancelled' }, 'neutral cancelled'],
    [{ kind: 'superseded' }, 'neutral superseded'],
    [{ kind: 'shutdown' }, 'neutral shutdown'],
  ];
  for (const [end, expected] of cases) {
    // A verdict from the transport depends neither on the caller's status nor on the message.
    for (const status of [Status.UNAVAILABLE, Status.INTERNAL, Status.OK])
      t.equal(judge({ ...end, status }), expected, JSON.stringify(end));
  }
});

t.test('a deadline is a failure only of an endpoint that had its usual time', async (t) => {
  const sent = { kind: 'deadline', progress: Progress.SENT, status: Status.DEADLINE_EXCEEDED } as const;
  const short = 'neutral deadline_too_short';
  const failure = 'failure timeout';
  const cases: [Partial<AttemptEnd>, number, string][] = [
    [{ deadlineOwner: 'caller', allowedMs: 999 }, 1000, short],
    [{ deadlineOwner: 'caller', allowedMs: 1000 }, 1000, failure],
    [{ deadlineOwner: 'caller', allowedMs: 5000 }, 1000, failure],
    [{ deadlineOwner: 'caller', allowedMs: 99 }, 0, short],
    [{ deadlineOwner: 'caller', allowedMs: 300 }, 0, failure],
    [{ deadlineOwner: 'configured', allowedMs: 60_000 }, 1000, failure],
    [{ deadlineOwner: 'configured', allowedMs: 50 }, 0, failure],
    [{ deadlineOwner: 'configured', allowedMs: 50 }, 1000, short],
    [{ deadlineOwner: 'caller', allowedMs: 5000, progress: Progress.CONNECTING }, 1000, failure],
    [{ deadlineOwner: 'caller', allowedMs: 5000, progress: Progress.QUEUED }, 1000, 'neutral not_sent'],
    [{ deadlineOwner: 'configured', progress: Progress.QUEUED }, 1000, 'neutral not_sent'],
  ];
  for (const [end, usualLatencyMs, expected] of cases)
    t.equal(
      judge({ ...sent, ...end }, { usualLatencyMs }),
      expected,
      `${JSON.stringify(end)} ${usualLatencyMs}`,
    );

  const answered = { status: Status.DEADLINE_EXCEEDED, progress: Progress.SENT } as const;
  const hurry = { deadlineOwner: 'caller', allowedMs: 200, elapsedMs: 195 } as const;
  t.equal(judge({ ...answered, ...hurry }), short, 'the server watches the same deadline');
  t.equal(judge({ ...answered, ...hurry, peerReason: 'deadline' }), short, 'and so does its sidecar');
  t.equal(judge({ kind: 'reset', code: 8, ...hurry, progress: Progress.SENT }), short, 'some servers reset');
  t.equal(judge({ kind: 'reset', code: 8, ...hurry, elapsedMs: 20 }), 'failure reset', 'but not before it');
  const task = { taskFailure: 'timeout', ...hurry } as const;
  t.equal(judge(task), short, 'an agent that says so because its caller was in a hurry');
});

t.test('a stream that flows at its deadline has not failed', async (t) => {
  const flowing = { streaming: true, progress: Progress.MESSAGE, deadlineOwner: 'caller' } as const;
  const over = { allowedMs: 10_000, elapsedMs: 10_000 };
  t.equal(judge({ ...flowing, ...over, kind: 'deadline' }), 'neutral stream_deadline');
  t.equal(judge({ ...flowing, ...over, status: Status.DEADLINE_EXCEEDED }), 'neutral stream_deadline');
  const early = { allowedMs: 10_000, elapsedMs: 500, status: Status.DEADLINE_EXCEEDED } as const;
  t.equal(judge({ ...flowing, ...early }), 'failure deadline_exceeded', "a deadline of the app's own");
  const none = { deadlineOwner: 'none', allowedMs: 0 } as const;
  t.equal(judge({ ...flowing, ...none, status: Status.DEADLINE_EXCEEDED }), 'failure deadline_exceeded');
});

t.test('a failed task under status OK counts where the cluster is set so', async (t) => {
  t.equal(judge({ taskFailure: 'failed' }), 'failure task_failed');
  t.equal(judge({ taskFailure: 'timeout' }), 'failure task_timeout');
  const off = { taskStatusIsVerdict: false };
  t.equal(judge({ taskFailure: 'failed' }, off), 'success ok');
  t.equal(judge({ taskFailure: 'timeout' }, off), 'success ok');
  t.equal(judge({ taskFailure: 'failed', status: Status.NOT_FOUND }), 'success answered');
});

t.test("answers of the peer's own sidecar are judged by their reason", async (t) => {
  const table: [string, StatusCode, string, boolean][] = [
    ['no_route', Status.UNIMPLEMENTED, 'neutral refused_by_sidecar', true],
    ['no_endpoint', Status.UNAVAILABLE, 'failure app_unreachable', true],
    ['circuit_open', Status.UNAVAILABLE, 'neutral circuit_open cooldown', true],
    ['connect_failed', Status.UNAVAILABLE, 'failure app_unreachable', true],
    ['draining', Status.UNAVAILABLE, 'neutral draining cooldown', true],
    ['overloaded', Status.RESOURCE_EXHAUSTED, 'neutral back_pressure cooldown', true],
    ['rate_limited', Status.RESOURCE_EXHAUSTED, 'neutral back_pressure cooldown', true],
    ['not_read', Status.RESOURCE_EXHAUSTED, 'neutral back_pressure cooldown', false],
    ['message_too_large', Status.RESOURCE_EXHAUSTED, 'neutral refused_by_sidecar', false],
    ['headers_too_large', Status.RESOURCE_EXHAUSTED, 'neutral refused_by_sidecar', false],
    ['headers_too_large', Status.NOT_FOUND, 'success answered', false],
    ['headers_too_large', Status.INTERNAL, 'failure internal', false],
    ['unreadable_message', Status.UNIMPLEMENTED, 'neutral refused_by_sidecar', true],
    ['unreadable_message', Status.INTERNAL, 'neutral refused_by_sidecar', true],
    ['bad_request', Status.INVALID_ARGUMENT, 'neutral refused_by_sidecar', true],
    ['deadline', Status.DEADLINE_EXCEEDED, 'failure deadline_exceeded', false],
    ['first_chunk', Status.DEADLINE_EXCEEDED, 'failure first_chunk_timeout', false],
    ['idle', Status.DEADLINE_EXCEEDED, 'failure idle_timeout', false],
    ['stream_cut', Status.UNAVAILABLE, 'failure app_cut', false],
    ['upstream_protocol', Status.INTERNAL, 'failure app_cut', false],
    ['upstream_reset', Status.INTERNAL, 'failure app_cut', false],
    ['upstream_reset', Status.RESOURCE_EXHAUSTED, 'neutral back_pressure cooldown', false],
    ['caller_gone', Status.CANCELLED, 'neutral cancelled_by_app', false],
    ['call_cycle', Status.FAILED_PRECONDITION, 'neutral refused_by_sidecar', true],
    ['call_depth', Status.FAILED_PRECONDITION, 'neutral refused_by_sidecar', true],
    ['task_not_repeatable', Status.FAILED_PRECONDITION, 'neutral refused_by_sidecar', false],
    ['bus_unavailable', Status.UNAVAILABLE, 'neutral refused_by_sidecar', false],
    ['outcome_unknown', Status.UNAVAILABLE, 'neutral refused_by_sidecar', false],
    ['task_cancelled', Status.CANCELLED, 'neutral cancelled_by_app', false],
    ['task_dead', Status.INTERNAL, 'neutral refused_by_sidecar', false],
    ['task_unknown', Status.NOT_FOUND, 'neutral refused_by_sidecar', true],
    ['task_differs', Status.ALREADY_EXISTS, 'neutral refused_by_sidecar', true],
    ['of_a_newer_version', Status.UNAVAILABLE, 'failure unavailable', false],
    ['of_a_newer_version', Status.RESOURCE_EXHAUSTED, 'neutral back_pressure cooldown', false],
    ['of_a_newer_version', Status.FAILED_PRECONDITION, 'neutral refused_by_sidecar', false],
    ['of_a_newer_version', Status.OK, 'neutral undecided', false],
  ];
  for (const [peerReason, status, expected, untouched] of table) {
    const end = { ...UNARY_OK, peerReason, status, progress: Progress.SENT };
    t.equal(judge(end), expected, peerReason);
    t.equal(
      neverReachedApp(end),
      untouched,
      `${peerReason}: ${untouched ? 'not' : 'perhaps'} seen by the app`,
    );
    t.notOk(neverReachedApp({ ...end, progress: Progress.MESSAGE }), 'not after a message');
    t.notOk(neverReachedApp({ ...end, kind: 'connection_lost' }), 'not from an answer that did not come');
  }
  const http = { ...UNARY_OK, peerReason: 'upstream_protocol', progress: Progress.SENT };
  t.equal(judge({ ...http, status: Status.UNAUTHENTICATED, code: 401 }), 'neutral caller_error');
  t.equal(judge({ ...http, status: Status.UNAVAILABLE, code: 503 }), 'failure not_grpc');
  for (const reason of Object.keys(REASONS))
    t.ok(
      table.some(([name]) => name === reason),
      reason,
    );
  t.ok(
    neverReachedApp({ ...UNARY_OK, kind: 'reset', code: 7, unprocessed: true }),
    "by the transport's proof",
  );
});

t.test('an attempt that ends with a graceful GOAWAY proves nothing', async (t) => {
  const going = { goingAway: true, progress: Progress.SENT } as const;
  const cases: [Partial<AttemptEnd>, string][] = [
    [{ status: Status.UNAVAILABLE }, 'neutral going_away'],
    [{ kind: 'connection_lost' }, 'neutral going_away'],
    [{ kind: 'reset', code: 2 }, 'neutral going_away'],
    [{ kind: 'no_status' }, 'neutral going_away'],
    [{ status: Status.UNAVAILABLE, peerReason: 'stream_cut' }, 'neutral going_away'],
    [{ status: Status.OK }, 'success ok'],
    [{ status: Status.NOT_FOUND }, 'success answered'],
    [{ status: Status.INTERNAL }, 'failure internal'],
    [{ status: Status.DEADLINE_EXCEEDED }, 'failure deadline_exceeded'],
    [{ taskFailure: 'failed' }, 'failure task_failed'],
    [{ kind: 'deadline' }, 'failure timeout'],
    [{ kind: 'cancelled' }, 'neutral cancelled'],
  ];
  for (const [end, expected] of cases) t.equal(judge({ ...going, ...end }), expected, JSON.stringify(end));
});

t.test('failures in flight at an ejected endpoint do not count against the cluster', async (t) => {
  const failed = VERDICTS.timeout;
  t.equal(verdictForCircuit(failed, 1000, 0), failed);
  t.equal(verdictForCircuit(failed, 0, 0), failed, '0 is none, also for a clock that has just begun');
  t.equal(
    verdictForCircuit(failed, 1000, 900),
    failed,
    'sent after the ejection: to an endpoint all depend on',
  );
  t.equal(verdictForCircuit(failed, 1000, 1000), VERDICTS.endpoint_ejected);
  t.equal(verdictForCircuit(failed, 1000, 4000), VERDICTS.endpoint_ejected);
  t.equal(verdictForCircuit(VERDICTS.ok, 1000, 4000), VERDICTS.ok);
  t.equal(verdictForCircuit(VERDICTS.cancelled, 1000, 4000), VERDICTS.cancelled);
  seen.add('endpoint_ejected');
});

t.test("how servers refuse a request that breaks gRPC's rules", async (t) => {
  const refused = { requestIrregular: true, progress: Progress.SENT } as const;
  const cases: [Partial<AttemptEnd>, string][] = [
    ...[1, 2, 7, 8].map((code): [Partial<AttemptEnd>, string] => [
      { ...refused, kind: 'reset', code },
      'neutral caller_error',
    ]),
    [{ ...refused, status: Status.INTERNAL }, 'neutral caller_error'],
    [{ ...refused, status: Status.UNKNOWN }, 'neutral caller_error'],
    [{ ...refused, kind: 'http_status', code: 501 }, 'neutral caller_error'],
    [{ ...refused, kind: 'no_status' }, 'neutral caller_error'],
    [{ ...refused, status: Status.INTERNAL, peerReason: 'upstream_reset' }, 'neutral caller_error'],
    [{ ...refused, status: Status.UNAVAILABLE, peerReason: 'stream_cut' }, 'failure app_cut'],
    [{ ...refused, status: Status.UNAVAILABLE }, 'failure unavailable'],
    [{ ...refused, kind: 'connection_lost' }, 'failure connection_lost'],
    [{ ...refused, kind: 'deadline' }, 'failure timeout'],
    [{ ...refused, progress: Progress.MESSAGE, kind: 'reset', code: 2 }, 'failure reset'],
    [{ ...refused, status: Status.OK }, 'success ok'],
    [{ ...refused, status: Status.INVALID_ARGUMENT }, 'success answered'],
  ];
  for (const [end, expected] of cases) t.equal(judge(end), expected, JSON.stringify(end));
});

t.test('verdicts keep their rules for every end', async (t) => {
  const kinds: EndKind[] = [
    'first_message',
    'status',
    'no_status',
    'http_status',
    'reset',
    'goaway',
    'connection_lost',
    'protocol',
    'no_connection',
    'own_limit',
    'deadline',
    'per_try',
    'first_chunk',
    'idle',
    'cancelled',
    'superseded',
    'shutdown',
  ];
  const anyEnd: fc.Arbitrary<AttemptEnd> = fc.record({
    kind: fc.constantFrom(...kinds),
    status: fc.constantFrom(...Object.values(Status)),
    code: fc.constantFrom(0, 1, 2, 7, 8, 11, 404, 429, 503),
    progress: fc.constantFrom(...Object.values(Progress)),
    unprocessed: fc.boolean(),
    streaming: fc.boolean(),
    answerOwed: fc.boolean(),
    deadlineOwner: fc.constantFrom('caller', 'configured', 'none'),
    allowedMs: fc.constantFrom(1, 100, 1000, 60_000, Number.POSITIVE_INFINITY),
    elapsedMs: fc.nat(60_000),
    requestIrregular: fc.boolean(),
    peerReason: fc.constantFrom('', '', 'overloaded', 'connect_failed', 'deadline', 'stream_cut', 'what'),
    pushbackMs: fc.constantFrom(undefined, -1, 0, 1000),
    notAgain: fc.constantFrom(...Object.values(NotAgain)),
    goingAway: fc.boolean(),
    taskFailure: fc.constantFrom('none', 'failed', 'timeout'),
  });
  const options = fc.record({
    taskStatusIsVerdict: fc.boolean(),
    usualLatencyMs: fc.constantFrom(0, 10, 1000),
  });
  const property = fc.property(anyEnd, options, (end, options) => {
    const verdict = verdictOf(end, options);
    const { outcome, cooldown } = verdict;
    if (verdict !== VERDICTS[verdict.reason]) return false;
    if (cooldown && outcome !== 'neutral') return false;
    if (outcome === 'success' && end.kind !== 'status' && end.kind !== 'first_message') return false;
    if (outcome === 'success' && end.kind === 'status' && end.peerReason !== '') return false;
    if (end.kind === 'cancelled' && outcome !== 'neutral') return false;
    const excused = end.goingAway || (end.requestIrregular && end.progress < Progress.MESSAGE);
    return end.kind !== 'no_status' || outcome === (excused ? 'neutral' : 'failure');
  });
  t.doesNotThrow(() => fc.assert(property, { numRuns: 5000 }));
});

t.test('the tables of this file have met every verdict', async (t) => {
  t.strictSame(
    Object.keys(VERDICTS).filter((reason) => !seen.has(reason as VerdictReason)),
    [],
  );
});
