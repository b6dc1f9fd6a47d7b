/**
 * What an attempt proved about its endpoint. One pure function for every kind of RPC.
 *
 * It judges a unary RPC once, at its end, and a stream twice, because its end may be minutes away:
 *
 *     first message ──▶ verdictOf(kind 'first_message')  success: a half-open circuit has its answer
 *            │
 *            ▼
 *     end ───────────▶ verdictOf(kind 'status', …)       success: it ended well
 *                                                        failure: it was cut, and the first success is taken back
 *                                                        neutral: its caller left; the first success stands
 *
 * A stream that ends before its first message is judged once, by its end. An unknown method counts as a stream: the
 * second verdict corrects the first.
 */
import { Status } from '../grpc/status.ts';
import { type AttemptEnd, Progress } from './attempt-end.ts';
import { deadlineReached } from './deadline.ts';
import { factsOf } from './reasons.ts';
import { VERDICTS, type Verdict } from './verdicts.ts';

export interface VerdictOptions {
  /** An OK with a TaskResponse.status of FAILED or TIMEOUT is a failure (`task.status_is_verdict`). */
  readonly taskStatusIsVerdict: boolean;
  /**
   * The latency that the method's answers nearly always stay within (their 95th percentile), in milliseconds; 0 when
   * unknown. It must cover all endpoints of the cluster: an endpoint's own figure would excuse its slowness.
   */
  readonly usualLatencyMs: number;
}

/**
 * While a method's latency is unknown, shorter deadlines prove nothing. The value is low, because callers with
 * deadlines of a fraction of a second must still find a black hole that has never answered.
 */
const ASSUMED_LATENCY_MS = 100;

export function verdictOf(end: AttemptEnd, options: VerdictOptions): Verdict {
  const verdict = verdictAlone(end, options);
  if (end.requestIrregular && mayRefuseRequest(verdict, end)) return VERDICTS.caller_error;
  return end.goingAway && endsWithConnection(verdict) ? VERDICTS.going_away : verdict;
}

/**
 * Whether this may be how a server refuses a request that breaks gRPC's rules. C-core resets it (no `te: trailers`,
 * another method than POST) or answers INTERNAL (metadata that is no base64): five from one such caller must not close
 * the method to all. A server that has begun a message has accepted the request.
 */
function mayRefuseRequest({ reason }: Verdict, { progress, peerReason }: AttemptEnd): boolean {
  switch (reason) {
    case 'reset':
    case 'refused':
    case 'internal':
    case 'unknown':
    case 'no_status':
    case 'not_grpc':
      return progress < Progress.MESSAGE;
    case 'app_cut':
      return progress < Progress.MESSAGE && peerReason !== 'stream_cut';
    default:
      return false;
  }
}

/** Whether the end of the connection may have failed the attempt; an app's own status does not depend on it. */
export function endsWithConnection({ reason }: Verdict): boolean {
  switch (reason) {
    case 'unavailable':
    case 'no_status':
    case 'reset':
    case 'connection_lost':
    case 'app_unreachable':
    case 'app_cut':
      return true;
    default:
      return false;
  }
}

function verdictAlone(end: AttemptEnd, options: VerdictOptions): Verdict {
  switch (end.kind) {
    case 'first_message':
      // One message of a unary RPC proves nothing yet: the status in its trailers is the answer.
      return end.streaming ? VERDICTS.first_message : VERDICTS.undecided;
    case 'status':
      return end.peerReason === '' ? verdictOfStatus(end, options) : verdictOfPeerSidecar(end, options);
    case 'no_status':
      return VERDICTS.no_status;
    case 'http_status':
      return verdictOfHttp(end.code);
    case 'reset':
      return verdictOfReset(end, options);
    case 'goaway':
      // The peer went away gracefully (a rollout, an old connection), or our own PINGs were too many: this says nothing
      // about the app.
      return end.code === NO_ERROR || end.code === ENHANCE_YOUR_CALM
        ? VERDICTS.going_away
        : VERDICTS.goaway_error;
    case 'connection_lost':
      // The peer closed an idle connection just as we chose it: it had no request to refuse. If the endpoint is gone,
      // the next connection will show it.
      return end.unprocessed ? VERDICTS.not_sent : VERDICTS.connection_lost;
    case 'protocol':
      return VERDICTS.protocol;
    case 'no_connection':
      return VERDICTS.connect_failed;
    case 'no_streams':
      return VERDICTS.not_sent;
    case 'own_limit':
      return VERDICTS.own_limit;
    case 'deadline':
      return verdictOfDeadline(end, options, VERDICTS.timeout);
    case 'per_try':
      return verdictOfSilence(end, VERDICTS.per_try_timeout);
    case 'first_chunk':
      return verdictOfSilence(end, VERDICTS.first_chunk_timeout);
    case 'idle':
      return verdictOfSilence(end, VERDICTS.idle_timeout);
    case 'cancelled':
      return VERDICTS.cancelled;
    case 'superseded':
      return VERDICTS.superseded;
    case 'shutdown':
      return VERDICTS.shutdown;
    default:
      return end.kind satisfies never;
  }
}

/**
 * The verdict for the circuit. An attempt whose endpoint was ejected since it began is neutral: the ejection has dealt
 * with that endpoint. The calls that were in flight there when it fell silent say nothing about the others, and would
 * open the circuit of an otherwise healthy cluster.
 *
 * @param ejectedAtMs when the endpoint was ejected; 0 when it is not
 */
export function verdictForCircuit(verdict: Verdict, startedAtMs: number, ejectedAtMs: number): Verdict {
  const ejectedSince = ejectedAtMs > 0 && ejectedAtMs >= startedAtMs;
  return verdict.outcome === 'failure' && ejectedSince ? VERDICTS.endpoint_ejected : verdict;
}

// HTTP/2 error codes (RFC 9113, section 7).
const NO_ERROR = 0x0;
const REFUSED_STREAM = 0x7;
const CANCEL = 0x8;
const ENHANCE_YOUR_CALM = 0xb;

function verdictOfReset(end: AttemptEnd, options: VerdictOptions): Verdict {
  switch (end.code) {
    case REFUSED_STREAM:
      return VERDICTS.refused;
    case ENHANCE_YOUR_CALM:
      return VERDICTS.back_pressure;
    case CANCEL:
      // Some servers reset a stream with CANCEL when its deadline passes. Otherwise nobody asked for the reset: a
      // status was owed.
      return timeWasUp(end) ? verdictOfDeadline(end, options, VERDICTS.reset) : VERDICTS.reset;
    default:
      return VERDICTS.reset;
  }
}

/**
 * The verdict on an answer in HTTP alone. Errors of the request (401 and 403 of a middleware, 404 for a method that a
 * server of several protocols does not have, 431, a redirect to a sign-in page) are the caller's, and prove nothing
 * about the endpoint: callers with a bad token must not close it to others. 408, 421 and 425 are no fault of the
 * request, and 429 is back-pressure in any protocol.
 */
function verdictOfHttp(code: number): Verdict {
  if (code === 429) return VERDICTS.back_pressure;
  const ofRequest = code >= 300 && code < 500 && code !== 408 && code !== 421 && code !== 425;
  return ofRequest ? VERDICTS.caller_error : VERDICTS.not_grpc;
}

/** The verdict on a status that the app gave. */
function verdictOfStatus(end: AttemptEnd, options: VerdictOptions): Verdict {
  switch (end.status) {
    case Status.OK:
      return options.taskStatusIsVerdict ? verdictOfTask(end, options) : VERDICTS.ok;
    case Status.UNAVAILABLE:
      return VERDICTS.unavailable;
    case Status.INTERNAL:
      return VERDICTS.internal;
    case Status.UNKNOWN:
      return VERDICTS.unknown;
    case Status.DATA_LOSS:
      return VERDICTS.data_loss;
    case Status.DEADLINE_EXCEEDED:
      // A server that watches the same deadline answers a moment before our own clock expires.
      return verdictOfDeadline(end, options, VERDICTS.deadline_exceeded);
    case Status.RESOURCE_EXHAUSTED:
      return VERDICTS.back_pressure;
    case Status.CANCELLED:
      // The server cancelled, not our caller: it saw the deadline pass, or it stops, which proves nothing.
      return timeWasUp(end)
        ? verdictOfDeadline(end, options, VERDICTS.deadline_exceeded)
        : VERDICTS.cancelled_by_app;
    default:
      return VERDICTS.answered;
  }
}

function verdictOfTask(end: AttemptEnd, options: VerdictOptions): Verdict {
  switch (end.taskFailure) {
    case 'failed':
      return VERDICTS.task_failed;
    case 'timeout':
      return verdictOfDeadline(end, options, VERDICTS.task_timeout);
    case 'none':
      return VERDICTS.ok;
    default:
      return end.taskFailure satisfies never;
  }
}

/**
 * The verdict on an answer of the peer's own sidecar. What the sidecar did before its app saw the call proves nothing
 * about the app, good or bad; if it can't reach its app, or if the app cut the call, the endpoint has failed.
 */
function verdictOfPeerSidecar(end: AttemptEnd, options: VerdictOptions): Verdict {
  const facts = factsOf(end.peerReason);
  switch (facts?.verdict) {
    case undefined:
      return verdictOfUnknownReason(end, options);
    case 'by_deadline':
      return verdictOfDeadline(end, options, VERDICTS.deadline_exceeded);
    case 'by_status':
      return end.status === Status.RESOURCE_EXHAUSTED ? VERDICTS.back_pressure : VERDICTS.app_cut;
    case 'by_own_status':
      return end.status === Status.RESOURCE_EXHAUSTED
        ? VERDICTS.refused_by_sidecar
        : verdictOfStatus(end, options);
    case 'by_http_status':
      return end.code === 0 ? VERDICTS.app_cut : verdictOfHttp(end.code);
    case 'first_chunk_timeout':
    case 'idle_timeout':
      return verdictOfSilence(end, VERDICTS[facts!.verdict]);
    default:
      return VERDICTS[facts!.verdict];
  }
}

/** The verdict when nothing arrived for too long. The endpoint has failed only if it owed the answer. */
function verdictOfSilence(end: AttemptEnd, failure: Verdict): Verdict {
  if (end.progress === Progress.QUEUED) return VERDICTS.not_sent;
  return end.answerOwed ? failure : VERDICTS.awaited_caller;
}

/** The verdict on the reason of a newer sidecar: its status decides, but it is never a success of the app. */
function verdictOfUnknownReason(end: AttemptEnd, options: VerdictOptions): Verdict {
  if (end.status === Status.OK) return VERDICTS.undecided;
  const verdict = verdictOfStatus(end, options);
  return verdict.outcome === 'success' ? VERDICTS.refused_by_sidecar : verdict;
}

/**
 * The verdict when the deadline passed. The endpoint has failed only if it had the time that its answers usually take:
 * a caller in a hurry, or a retry with the rest of an earlier attempt's time, must not eject endpoints that work. A
 * stream that was flowing at its deadline has failed at nothing; the idle clock finds one that had stalled.
 */
function verdictOfDeadline(end: AttemptEnd, options: VerdictOptions, failure: Verdict): Verdict {
  if (end.progress === Progress.QUEUED) return VERDICTS.not_sent;
  if (end.deadlineOwner === 'none') return failure;
  if (end.streaming && end.progress === Progress.MESSAGE)
    return timeWasUp(end) ? VERDICTS.stream_deadline : failure;
  const assumedMs = end.deadlineOwner === 'configured' ? 0 : ASSUMED_LATENCY_MS;
  return end.allowedMs < (options.usualLatencyMs || assumedMs) ? VERDICTS.deadline_too_short : failure;
}

/** Whether the deadline has passed at the endpoint, whose clock may expire a little before ours. */
function timeWasUp(end: AttemptEnd): boolean {
  return end.deadlineOwner !== 'none' && deadlineReached(end.elapsedMs, end.allowedMs);
}
