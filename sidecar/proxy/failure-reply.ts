/** Turns a call's failure into the reply that its caller receives. */
import { Status, type StatusCode } from '../grpc/status.ts';
import { ErrorCode } from '../http2/frame.ts';
import { deadlineReached } from '../policy/deadline.ts';
import { NEVER, NotAgain } from '../policy/pushback.ts';
import type { Attempt } from './attempt.ts';
import type { AttemptClockName } from './attempt-clock.ts';
import { type AttemptFailure, type NoConnection, statusOfFailure } from './attempt-failure.ts';
import type { AdmittedFacts, CallWith, PlacedFacts } from './call-facts.ts';
import { type LocalReply, reply, replyToCaller } from './reasons.ts';

/** A failed call, with its deadline: some servers enforce it before we do. */
type FailedCall = CallWith<'context' | 'clock'>;

/** The pushback that an overloaded listener sends. */
export const OVERLOADED_PUSHBACK_MS = 1_000;

export function isOverflow(failure: AttemptFailure): boolean {
  return failure.kind === 'no-connection' && failure.reason === 'pending_overflow';
}

type EndedCall = CallWith<'clock' | 'info' | 'startedAtMs'>;

/** Names the owner of the limit that the call ran into, and its length. */
function ranOutAfter(call: EndedCall, nowMs: number): string {
  const { clock, info } = call;
  const { allowedMs } = clock;
  const limit =
    info.timeoutMs > 0
      ? `max_timeout of ${allowedMs} ms, which is less than the caller's grpc-timeout,`
      : `timeout of ${allowedMs} ms`;
  const whose = {
    caller: "the caller's grpc-timeout",
    configured: `the configured ${limit}`,
    inbound: 'what was left of the inbound call that this one is made for',
    none: 'the time',
  }[clock.deadlineOwner];
  return `${whose} ran out after ${Math.round(nowMs - call.startedAtMs)} ms`;
}

/** The reply to a call that has no answer at its deadline. */
export function replyToDeadline(call: EndedCall & CallWith<'attempt'>, nowMs: number): LocalReply {
  const { attempt, clock } = call;
  const where = attempt === undefined ? '' : `, waiting for ${attempt.endpoint.address}`;
  return {
    ...reply('deadline', ranOutAfter(call, nowMs) + where),
    byCaller: clock.deadlineOwner === 'caller',
  };
}

/** The reply to a call whose answer is complete but unread at its deadline. */
export function replyToUnread(call: EndedCall, nowMs: number): LocalReply {
  return reply('deadline', `${ranOutAfter(call, nowMs)}, waiting for the caller to read`);
}

/** Refuses a call at no cost, because its answer would come too late. */
export function tooLittleTime(call: CallWith<'clock' | 'info'>, neededMs: number, nowMs: number): LocalReply {
  const leftMs = Math.max(0, Math.round(call.clock.deadlineMs - nowMs));
  return reply(
    'deadline',
    `${leftMs} ms are left, and even the quickest answers of ${call.info.method} take ${Math.round(neededMs)} ms; it was not sent`,
  );
}

/** The reply to the last attempt's failure. It tells hops above when another try makes no sense. */
export function lastAnswer({
  context,
  tries,
  lineage,
}: AdmittedFacts & CallWith<'context' | 'lineage'>): LocalReply {
  const { notAgain } = lineage;
  const answer = tries.lastFailure!;
  if (notAgain === NotAgain.EVERYBODY) return { ...answer, pushbackMs: NEVER };
  return notAgain === NotAgain.SIDECARS && context.listener === 'inbound'
    ? { ...answer, retriesEnded: true }
    : answer;
}

/** Refuses a call whose caller holds most of the waiting bytes. */
export function noRoom({ progress, stream }: CallWith<'progress' | 'stream'>): LocalReply {
  const kib = Math.ceil(stream.connection.held.bytes / 1_024);
  const what = progress.isAwaitingMessage
    ? 'too many calls wait for their first message'
    : 'too many requests wait';
  const message = `${what}, and most of them are this caller's: ${kib} KiB on this connection; send each message with its call, and fewer at a time`;
  return reply('overloaded', message, OVERLOADED_PUSHBACK_MS);
}

export function noEndpoint(call: PlacedFacts & CallWith<'context'>): LocalReply {
  const { name, endpoints } = call.cluster;
  const [app] = endpoints;
  if (call.context.listener === 'inbound' && app !== undefined)
    return reply('no_endpoint', withoutApp(call, app.address, app.unusableBecause ?? 'it was just tried'));
  if (call.context.listener === 'inbound')
    return reply(
      'no_endpoint',
      `${call.context.name} only calls: its sidecar has no app (inbound.app is none); call an agent, or set inbound.app`,
    );
  if (endpoints.length === 0)
    return reply('no_endpoint', `cluster ${name} has no endpoints: discovery found none yet`);
  const reasons = endpoints
    .slice(0, 3)
    .map((endpoint) => `${endpoint.address}: ${endpoint.unusableBecause ?? 'just tried'}`);
  return reply('no_endpoint', `no endpoint of cluster ${name} is usable (${reasons.join('; ')})`);
}

/** Names the agent, for callers of many agents and for the operator who has to start the app. */
function withoutApp(call: CallWith<'context'>, address: string, why: string): string {
  return `the app of ${call.context.name} at ${address} takes no calls (${why}); start it, or correct inbound.app`;
}

/**
 * The gRPC status of a failed attempt of this call. Some servers reset a call with CANCEL when its deadline passes, a
 * moment before our own clock expires.
 */
export function statusFor(call: FailedCall, attempt: Attempt, failure: AttemptFailure): StatusCode {
  if (failure.kind === 'reset' && failure.code === ErrorCode.CANCEL && call.clock.deadlineMs > 0) {
    const { startedAtMs } = attempt;
    if (deadlineReached(call.context.clock() - startedAtMs, call.clock.deadlineMs - startedAtMs))
      return Status.DEADLINE_EXCEEDED;
  }
  return statusOfFailure(failure);
}

/** The reply to a failed attempt that no other follows. */
export function replyToFailure(call: FailedCall, attempt: Attempt, failure: AttemptFailure): LocalReply {
  const answer = plainReplyTo(call, attempt, failure);
  const goingAway = call.context.listener === 'inbound' && attempt.verdict.reason === 'going_away';
  return goingAway ? { ...answer, goingAway } : answer;
}

function plainReplyTo(call: FailedCall, attempt: Attempt, failure: AttemptFailure): LocalReply {
  const { address } = attempt.endpoint;
  switch (failure.kind) {
    case 'no-connection':
      return replyWithoutConnection(call, address, failure);
    case 'goaway':
      return reply('connect_failed', `${address}: ${failure.message}`);
    case 'connection':
      return reply('stream_cut', `${address}: ${failure.message}`);
    case 'stalled':
      return reply('not_read', `${address}: ${failure.message}`);
    case 'protocol':
      return reply('upstream_protocol', `${address} broke HTTP/2: ${failure.message}`);
    case 'reset': {
      const status = statusFor(call, attempt, failure);
      if (status === Status.DEADLINE_EXCEEDED)
        return reply('deadline', `${address} ended the call at its deadline`);
      return {
        reason: 'upstream_reset',
        status: status === Status.OK ? Status.UNKNOWN : status,
        message: `${address}: ${failure.message}`,
      };
    }
    default:
      return failure satisfies never;
  }
}

function replyWithoutConnection(
  call: CallWith<'context'>,
  address: string,
  { reason, message }: NoConnection,
): LocalReply {
  switch (reason) {
    case 'headers_too_large':
      return replyToCaller(reason, message);
    case 'pending_overflow':
      return reply(
        'overloaded',
        `${message} to ${address} (limits.max_pending_calls)`,
        OVERLOADED_PUSHBACK_MS,
      );
    case 'connect_failed':
    case 'no_streams':
      return reply(
        'connect_failed',
        call.context.listener === 'inbound' ? withoutApp(call, address, message) : message,
      );
    default:
      return reason satisfies never;
  }
}

export function replyToNotGrpc(
  attempt: Attempt,
  status: StatusCode,
  httpStatus: number,
  contentType = 'no content-type',
): LocalReply {
  const message = `${attempt.endpoint.address} answered HTTP ${httpStatus} (${contentType}), not gRPC`;
  return { reason: 'upstream_protocol', status, message, upstreamHttpStatus: httpStatus };
}

/** The reply when one of the attempt's own clocks expired. */
export function replyToClock(attempt: Attempt, clock: AttemptClockName): LocalReply {
  const { address } = attempt.endpoint;
  const elapsedMs = Math.round(attempt.elapsedMs);
  switch (clock) {
    case 'per_try':
      return reply('deadline', `${address} gave no answer in ${elapsedMs} ms (retry.per_try_timeout)`);
    case 'first_chunk':
      return reply(
        'first_chunk',
        `${address} sent no first message in ${elapsedMs} ms (first_chunk_timeout)`,
      );
    default:
      return clock satisfies never;
  }
}

/** The reply to a call that was silent for too long. */
export function replyToIdle({
  attempt,
  request,
  progress,
}: CallWith<'attempt' | 'request' | 'progress'>): LocalReply {
  if (attempt === undefined) return reply('idle', 'the request did not come (idle_timeout)');
  const { address } = attempt.endpoint;
  if (!request.ended)
    return reply('idle', `neither the caller nor ${address} sent anything more (idle_timeout)`);
  return reply('idle', `${address} sent nothing${progress.isAnswering ? ' more' : ''} (idle_timeout)`);
}
