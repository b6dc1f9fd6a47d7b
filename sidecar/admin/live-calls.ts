/**
 * `/calls`: the running calls with their attempts, oldest first. The calls are found when somebody asks, in the streams of the
 * open connections, so that a call pays nothing for it. The page names methods, ids, endpoints and times; it has no header
 * value and no message.
 */
import type { Sidecar } from '../data-plane/sidecar.ts';
import type { FailedCalls } from '../observers/failed-calls.ts';
import type { Attempt } from '../proxy/attempt.ts';
import { Call } from '../proxy/call.ts';
import { isTaskPath, readTaskKey, type TaskKey } from '../task/task-message.ts';
import { type CallFilter, readCallFilter } from './call-filter.ts';

/** Callers choose the path and the ids; longer ones are cut. */
const MAX_METHOD_CHARS = 200;
const NO_TASK: TaskKey = { taskId: '', correlationId: '', agentType: '' };

/** Returns the running calls that the query asks for: the oldest ones, up to its limit. A text says what is wrong with it. */
export function liveCalls(sidecar: Sidecar, failed: FailedCalls, query: URLSearchParams) {
  const filter = readCallFilter(query);
  if (typeof filter === 'string') return filter;
  const nowMs = sidecar.clock();
  const oldest = new Oldest(filter.limit);
  let running = 0;
  for (const call of runningCalls(sidecar)) {
    running++;
    if (matches(call, filter, nowMs)) oldest.add(call);
  }
  return {
    at: new Date().toISOString(),
    running,
    matching: oldest.offered,
    left_out: oldest.offered - oldest.calls.length,
    calls: oldest.calls.map((call) => describe(call, failed, nowMs)),
  };
}

/** A call whose caller has left may run on for others: only the app's side still knows it. */
function* runningCalls({ inbound, outbound, inboundCalls }: Sidecar): Generator<Call> {
  for (const listener of [inbound.listener, ...outbound.listeners])
    for (const call of listener.calls()) if (call.callerGoneAtMs === 0 && !call.progress.isDone) yield call;
  for (const call of inboundCalls.running())
    if (call instanceof Call && call.callerGoneAtMs > 0 && !call.progress.isDone) yield call;
  for (const call of inbound.resumptions.away())
    if (call instanceof Call && call.callerGoneAtMs === 0 && !call.progress.isDone) yield call;
}

function matches(call: Call, filter: CallFilter, nowMs: number): boolean {
  if (nowMs - call.startedAtMs < filter.olderThanMs) return false;
  if (filter.cluster !== '' && call.cluster?.name !== filter.cluster) return false;
  if (filter.method !== '' && !call.info.method.includes(filter.method)) return false;
  if (filter.task === '') return true;
  const { taskId, correlationId } = taskOf(call);
  return taskId === filter.task || correlationId === filter.task;
}

/** Reads the ids from the kept request where the sidecar had no need to. The call does not change. */
function taskOf(call: Call): TaskKey {
  if (call.task !== undefined) return call.task;
  if (!call.info.grpc || !isTaskPath(call.info.method) || !call.request.whole) return NO_TASK;
  const message = call.request.firstMessage(true);
  // Inflating the messages of all calls would cost too much.
  if (message === undefined || message.flag !== 0) return NO_TASK;
  return readTaskKey(message.buffer, message.start, message.end);
}

function describe(call: Call, failed: FailedCalls, nowMs: number) {
  const { taskId, correlationId, agentType } = taskOf(call);
  const { callerGoneAtMs } = call.progress;
  const { deadlineMs } = call.clock;
  return {
    listener: call.context.listener,
    method: call.info.method.replace(/^\//, '').slice(0, MAX_METHOD_CHARS),
    task_id: taskId,
    correlation_id: correlationId,
    agent_type: agentType,
    cluster: call.cluster?.name ?? '',
    caller: call.callerIdentity ?? call.caller.name,
    caller_gone_ms: callerGoneAtMs > 0 ? tenths(nowMs - callerGoneAtMs) : null,
    age_ms: tenths(nowMs - call.startedAtMs),
    deadline_in_ms: deadlineMs > 0 ? tenths(deadlineMs - nowMs) : null,
    state: stateOf(call),
    attempts: call.attempts,
    way: [
      ...endedAttempts(call, failed),
      ...runningAttempts(call).map((attempt) => running(call, attempt, nowMs)),
    ],
  };
}

/**
 * The state for operators: that of `CallProgress`, with the waits told apart.
 *
 * - `queued`: it waits for its turn at the listener;
 * - `awaiting_message`: its caller has not sent the first message;
 * - `joined`: it receives the answer of another call of the same task;
 * - `backing_off`: an attempt failed, and the next one begins after a pause;
 * - `attempting`: an attempt waits for its answer;
 * - `answering`: the answer has begun;
 * - `resuming`: the connection to the endpoint was lost in the middle of the answer, and the sidecar asks for the rest;
 * - `cut`: the connection of its caller was lost in the middle of the answer, and the caller may come back.
 */
function stateOf(call: Call): string {
  const { progress, place, tries } = call;
  if (call.resumable?.isCut === true) return 'cut';
  if (progress.isAnswering) return call.attempt?.resume?.isResumed === false ? 'resuming' : 'answering';
  if (progress.isAwaitingMessage) return 'awaiting_message';
  if (call.follower !== undefined) return 'joined';
  if (place !== undefined && place.admittedAtMs === 0) return 'queued';
  if (tries === undefined) return 'begun';
  return tries.retryWait === undefined ? 'attempting' : 'backing_off';
}

function runningAttempts({ tries }: Call): readonly Attempt[] {
  if (tries === undefined) return [];
  const all = tries.hedging?.attempts ?? [];
  const { current } = tries;
  const one = current === undefined || all.includes(current) ? [] : [current];
  return [...all, ...one].filter(({ ended }) => !ended);
}

function running(call: Call, attempt: Attempt, nowMs: number) {
  return {
    number: attempt.number,
    endpoint: attempt.endpoint.address,
    state: attemptState(call, attempt),
    hedge: attempt.hedge,
    outcome: '',
    verdict: '',
    status: '',
    after_ms: tenths(attempt.startedAtMs - call.startedAtMs),
    elapsed_ms: tenths(nowMs - attempt.startedAtMs),
  };
}

/**
 * `connecting`, `no_stream` (the connections are full), `sending` (the request is not complete), `waiting`, `answering`, or
 * `resuming` (it asks for the rest of a stream).
 */
function attemptState(call: Call, attempt: Attempt): string {
  const { stream } = attempt;
  if (stream === undefined) return attempt.endpoint.pool.connectionCount > 0 ? 'no_stream' : 'connecting';
  if (attempt.resume?.isResumed === false) return 'resuming';
  if (attempt.answered || (call.progress.isAnswering && attempt === call.attempt)) return 'answering';
  return stream.canSend ? 'sending' : 'waiting';
}

/** The sidecar keeps the ends of a call's attempts where one failed; it drops them when very many calls fail at once. */
function endedAttempts(call: Call, failed: FailedCalls) {
  return failed.wayOf(call).map((attempt) => ({
    number: attempt.number,
    endpoint: attempt.endpoint,
    state: 'ended',
    hedge: false,
    outcome: attempt.outcome,
    verdict: attempt.verdict,
    status: attempt.status,
    after_ms: attempt.after_ms,
    elapsed_ms: attempt.elapsed_ms,
  }));
}

/** Keeps the oldest calls of many without sorting all of them. */
class Oldest {
  readonly calls: Call[] = [];
  offered = 0;
  private readonly limit: number;

  constructor(limit: number) {
    this.limit = limit;
  }

  add(call: Call): void {
    this.offered++;
    const { calls } = this;
    let at = calls.length;
    while (at > 0 && calls[at - 1]!.startedAtMs > call.startedAtMs) at--;
    if (at === this.limit) return;
    calls.splice(at, 0, call);
    if (calls.length > this.limit) calls.pop();
  }
}

function tenths(ms: number): number {
  return Math.round(ms * 10) / 10;
}
