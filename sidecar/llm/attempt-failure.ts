/** What a failed attempt is said to be, in the words of its options. Pure. */
import type { ClockLimits, ClockName } from './attempt-clocks.ts';
import type { FailureReason } from './retry.ts';

export interface FailureContext extends ClockLimits {
  readonly upstream: string;
  readonly maxAnswerBytes: number;
  readonly receivedMs: number;
}

/** For people; names the setting that would change it. */
export function failureMessage(
  reason: FailureReason,
  context: FailureContext,
  status: number,
  code: string,
  clock: ClockName | undefined,
): string {
  return `${context.upstream}: ${MESSAGES[reason](context, status, code, clock)}`;
}

type Describe = (
  context: FailureContext,
  status: number,
  code: string,
  clock: ClockName | undefined,
) => string;

const MESSAGES: Readonly<Record<FailureReason, Describe>> = {
  status: (_context, status) => `answered ${status}`,
  connect_failed: (_context, _status, code) =>
    `can not be connected to (${code}); check its url and the network`,
  connection_lost: (_context, _status, code) => `the connection was lost before an answer (${code})`,
  first_byte: ({ firstByteTimeoutMs }) =>
    `no event of the stream within ${firstByteTimeoutMs} ms (first_byte_timeout)`,
  idle: ({ idleTimeoutMs }) => `nothing for ${idleTimeoutMs} ms in the middle of the answer (idle_timeout)`,
  deadline: (context, _status, _code, clock) => deadlineMessage(context, clock),
  stream_cut: () => 'the stream ended before its terminal marker; the answer is not complete',
  answer_cut: () => 'the answer broke off',
  malformed_answer: () => 'the answer is no JSON',
  answer_too_large: ({ maxAnswerBytes }) =>
    `the answer has more than ${maxAnswerBytes} bytes (max_answer_bytes)`,
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
