/** Describes how an attempt failed: in words for the caller, and in facts for retries. Pure but for the time of day. */
import type { AnswerError } from '../kinds/answer-facts.ts';
import type { ProviderKind } from '../kinds/traits.ts';
import { retryAfterMs } from '../limits/retry-after.ts';
import { type HttpHeaders, textOf } from '../shared/headers.ts';
import type { ClockName, ProviderFailure, ProviderFailureReason } from '../shared/provider-failure.ts';
import type { ClockLimits, ProviderAttemptClocks } from './provider-attempt-clocks.ts';

export interface FailureContext extends ClockLimits {
  /** The upstream's name, for messages. */
  readonly upstream: string;
  /** What the provider is like. */
  readonly kind: Pick<ProviderKind, 'quotas'>;
  readonly maxAnswerBytes: number;
  /** Milliseconds that never go back. */
  readonly clock: () => number;
  /** When the request arrived, by the clock. */
  readonly receivedMs: number;
  /** Holds when any answer of the upstream last showed life. */
  readonly life: { aliveMs: number };
}

/** The facts of the failure itself. */
export interface FailureDetails {
  readonly code?: string;
  readonly stale?: boolean;
  /** Whether the attempt has cost tokens, where that is known. */
  readonly paid?: boolean;
  readonly clock?: ClockName;
  readonly outOfCredit?: string | undefined;
  /** The wait that the body of the error asks for, in milliseconds. */
  readonly waitMs?: number | undefined;
  /** The error inside an answer with a good status. */
  readonly answerError?: AnswerError | undefined;
}

/** How far the attempt had come. */
export interface AttemptProgress {
  /** 0 without an answer. */
  readonly status: number;
  readonly headers: HttpHeaders;
  /** The last byte of the request has gone out. */
  readonly sent: boolean;
  readonly mayBeRunning: boolean;
}

export function describeFailure(
  reason: ProviderFailureReason,
  { code = '', stale = false, paid, clock, outOfCredit, waitMs, answerError }: FailureDetails,
  context: FailureContext,
  clocks: ProviderAttemptClocks,
  { status: ofHead, headers, sent, mayBeRunning }: AttemptProgress,
): ProviderFailure {
  const status = answerError?.status ?? ofHead;
  const told = textOf(headers['x-should-retry']);
  const answered = reason === 'status';
  return {
    reason,
    status,
    retryAfterMs:
      status < 400 ? undefined : (retryAfterMs(context.kind.quotas, status, headers, Date.now()) ?? waitMs),
    shouldRetry: told === 'true' ? true : told === 'false' ? false : undefined,
    outOfCredit,
    clock,
    message: `${context.upstream}: ${MESSAGES[reason](context, status, answerError?.code ?? code, clock)}`,
    mayHaveCost: (answered ? paid === true : !stale) && (paid ?? (sent || status > 0)),
    mayBeRunning: !answered && !stale && paid === undefined && mayBeRunning,
    upstreamWasSilent: wasSilent(clock, context, clocks),
  };
}

/** Whether the upstream was silent for a whole clock; a clock that had mostly passed when the attempt began proves nothing. */
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

/** A kept connection that is lost later than this was not lost because it had idled. */
const STALE_MS = 2_000;

/** Whether a kept connection was lost because its provider had just closed it. @param sinceMs time since the request went out */
export function isStale(code: string, sinceMs: number): boolean {
  return sinceMs < STALE_MS && (code === 'ECONNRESET' || code === 'EPIPE');
}

/** Matches faults in a head after its status line, by the parser's and the relay's names: such a head belongs to an answer. */
const BROKEN_HEAD =
  /HPE_(?:HEADER_OVERFLOW|INVALID_HEADER_TOKEN|\w+_CONTENT_LENGTH|\w+_TRANSFER_ENCODING)|head of status 2|no HTTP\/2/;

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
    code === 'ERR_INVALID_CHAR'
      ? 'can not be asked: its key has characters that no header can carry; check the variable of its api_key_env'
      : `can not be connected to (${code}); check its url and the network`,
  connection_lost: (_context, _status, code) =>
    `the connection was lost before an answer (${code}); look at the provider's status`,
  upstream_protocol: (_context, _status, code) => `answered ${code}`,
  first_byte: ({ firstByteTimeoutMs }) =>
    `no event of the stream within ${firstByteTimeoutMs} ms (first_byte_timeout)`,
  idle: ({ idleTimeoutMs }) => `nothing for ${idleTimeoutMs} ms in the middle of the answer (idle_timeout)`,
  deadline: (context, _status, _code, clock) => deadlineMessage(context, clock),
  stream_cut: () =>
    'the stream ended without its last event, so the answer is not complete; send the request again',
  answer_cut: () => 'the answer broke off; send the request again',
  malformed_answer: () => 'the answer is no JSON; check that the url of the upstream is that of its API',
  answer_too_large: ({ maxAnswerBytes }) =>
    `the answer has more than ${maxAnswerBytes} bytes (llm.limits.max_answer_bytes); ask for a shorter one`,
  budget_exhausted: () =>
    'the answer has more tokens than the budget of the task has left; ask for fewer tokens',
  draining: () => 'the sidecar is shutting down and the answer did not end in time; retry',
};

function deadlineMessage(context: FailureContext, clock: ClockName | undefined): string {
  const within = (atMs: number): string => `${Math.max(0, Math.round(atMs - context.receivedMs))} ms`;
  if (clock === 'client')
    return `no answer within ${within(context.clientAtMs)}, the timeout of the client less a margin; give it more time`;
  if (clock === 'call') return 'the deadline of the inbound call has passed; give the call more time';
  return `no whole answer within ${within(context.timeoutAtMs)} (timeout)`;
}
