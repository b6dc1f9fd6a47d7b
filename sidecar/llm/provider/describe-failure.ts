/** Describes how an attempt failed: in words for the caller, and in facts for the retry. Pure but for the time of day. */
import type { AnswerError } from '../answer/answer-error.ts';
import { retryAfterMs } from '../limits/retry-after.ts';
import { type HttpHeaders, textOf } from '../shared/headers.ts';
import type { ClockName, ProviderFailure, ProviderFailureReason } from '../shared/provider-failure.ts';
import type { ClockLimits, ProviderAttemptClocks } from './provider-attempt-clocks.ts';

export interface FailureContext extends ClockLimits {
  /** For messages: the upstream's name. */
  readonly upstream: string;
  readonly maxAnswerBytes: number;
  /** Milliseconds that never go back. */
  readonly clock: () => number;
  /** Of the request, by the clock. */
  readonly receivedMs: number;
  /** When any answer of the upstream last showed life. */
  readonly life: { aliveMs: number };
}

/** Facts of the failure itself. */
export interface FailureDetails {
  readonly code?: string;
  readonly stale?: boolean;
  /** Whether it has cost something, where that is known. */
  readonly paid?: boolean;
  readonly clock?: ClockName;
  readonly outOfCredit?: string | undefined;
  /** It stands in an answer whose status says that all is well. */
  readonly answerError?: AnswerError | undefined;
}

/** What had been seen of the attempt. */
export interface Seen {
  /** 0 when there was no answer. */
  readonly status: number;
  readonly headers: HttpHeaders;
  /** The request went out to its last byte. */
  readonly sent: boolean;
  readonly mayBeRunning: boolean;
}

export function describeFailure(
  reason: ProviderFailureReason,
  { code = '', stale = false, paid, clock, outOfCredit, answerError }: FailureDetails,
  context: FailureContext,
  clocks: ProviderAttemptClocks,
  { status: ofHead, headers, sent, mayBeRunning }: Seen,
): ProviderFailure {
  const status = answerError?.status ?? ofHead;
  const told = textOf(headers['x-should-retry']);
  const answered = reason === 'status';
  return {
    reason,
    status,
    retryAfterMs: status >= 400 ? retryAfterMs(status, headers, Date.now()) : undefined,
    shouldRetry: told === 'true' ? true : told === 'false' ? false : undefined,
    outOfCredit,
    clock,
    message: `${context.upstream}: ${MESSAGES[reason](context, status, answerError?.code ?? code, clock)}`,
    mayHaveCost: (answered ? paid === true : !stale) && (paid ?? (sent || status > 0)),
    mayBeRunning: !answered && !stale && paid === undefined && mayBeRunning,
    upstreamWasSilent: wasSilent(clock, context, clocks),
  };
}

/** A clock that had mostly gone by when the attempt began proves nothing. */
function wasSilent(
  clock: ClockName | undefined,
  { clock: now, life, receivedMs, clientAtMs, timeoutAtMs }: FailureContext,
  { startedMs }: ProviderAttemptClocks,
): boolean {
  if (clock !== 'first_byte_timeout' && clock !== 'timeout' && clock !== 'client') return false;
  if (life.aliveMs >= startedMs) return false;
  if (clock === 'first_byte_timeout') return true;
  return now() - startedMs >= ((clock === 'client' ? clientAtMs : timeoutAtMs) - receivedMs) / 2;
}

/** A request on a kept connection that is lost later than this was not lost to the end of the connection's idling. */
const STALE_MS = 2_000;

/** Was a kept connection lost because its provider had just closed it? @param sinceMs its request had gone out */
export function isStale(code: string, sinceMs: number): boolean {
  return sinceMs < STALE_MS && (code === 'ECONNRESET' || code === 'EPIPE');
}

/** What is wrong behind a status line, by the parser's names and the relay's: such a head belongs to an answer. */
const BROKEN_HEAD =
  /HPE_(?:HEADER_OVERFLOW|INVALID_HEADER_TOKEN|\w+_CONTENT_LENGTH|\w+_TRANSFER_ENCODING)|head of status 2/;

export function isBrokenHead(what: string): boolean {
  return BROKEN_HEAD.test(what);
}

type Describe = (
  context: FailureContext,
  status: number,
  code: string,
  clock: ClockName | undefined,
) => string;

const MESSAGES: Readonly<Record<ProviderFailureReason, Describe>> = {
  status: (_context, status, code) => `answered ${status}${code === '' ? '' : ` (${code})`}`,
  connect_failed: (_context, _status, code) =>
    `can not be connected to (${code}); check its url and the network`,
  connection_lost: (_context, _status, code) => `the connection was lost before an answer (${code})`,
  upstream_protocol: (_context, _status, code) => `answered ${code}`,
  first_byte: ({ firstByteTimeoutMs }) =>
    `no event of the stream within ${firstByteTimeoutMs} ms (first_byte_timeout)`,
  idle: ({ idleTimeoutMs }) => `nothing for ${idleTimeoutMs} ms in the middle of the answer (idle_timeout)`,
  deadline: (context, _status, _code, clock) => deadlineMessage(context, clock),
  stream_cut: () => 'the stream ended before its end was told; the answer is not complete',
  answer_cut: () => 'the answer broke off',
  malformed_answer: () => 'the answer is no JSON',
  answer_too_large: ({ maxAnswerBytes }) =>
    `the answer has more than ${maxAnswerBytes} bytes (llm.limits.max_answer_bytes)`,
  budget_exhausted: () => 'the answer has more tokens than the budget of the task lets it have',
  draining: () => 'the sidecar is shutting down and the answer did not end in time',
};

function deadlineMessage(context: FailureContext, clock: ClockName | undefined): string {
  const within = (atMs: number): string => `${Math.max(0, Math.round(atMs - context.receivedMs))} ms`;
  if (clock === 'client')
    return `no answer within ${within(context.clientAtMs)}, the timeout of the client itself less a margin`;
  if (clock === 'call') return 'the deadline of the call that the request was made for has passed';
  return `no whole answer within ${within(context.timeoutAtMs)} (timeout)`;
}
