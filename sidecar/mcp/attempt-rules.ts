/** Decides what may be sent again, when, and how long an attempt may take. Pure. */
import { backoffMs } from '../clock/backoff.ts';
import type { McpOutcome } from '../telemetry/mcp-stats.ts';
import type { RequestMessage } from './message/json-rpc.ts';
import type { McpRequest } from './message/mcp-request.ts';
import { isRepeatable, isSubscription } from './message/revision.ts';
import type { AttemptLimits } from './server/attempt.ts';
import { isRetryable, type McpFailure } from './server/failure.ts';
import type { McpServer } from './server/mcp-server.ts';
import type { McpSettings } from './shared/mcp-settings.ts';

const BACKOFF_MULTIPLIER = 2;
/** The moment was wrong: a proxy has no server, or the server has no room. */
const RETRIED_STATUSES: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/** Whether each of the requests may run twice. */
export function mayRepeat(
  server: Pick<McpServer, 'mayRepeat'>,
  requests: readonly RequestMessage[],
): boolean {
  return requests.every(({ method, params }) =>
    method === 'tools/call' ? server.mayRepeat(String(params['name'])) : isRepeatable(method),
  );
}

/**
 * Whether a failed attempt may be followed by another one.
 *
 * @param repeatable its requests may run twice
 * @param status of the answer; undefined without one
 */
export function maySendAgain(failure: McpFailure, repeatable: boolean, status: number | undefined): boolean {
  if (!isRetryable(failure) || (failure.sent && !repeatable)) return false;
  return failure.reason !== 'status' || RETRIED_STATUSES.has(status ?? 0);
}

/** @param random in [0, 1) */
export function retryInMs(
  { baseMs, maxMs }: McpSettings['retry']['backoff'],
  attempts: number,
  random: number,
): number {
  return backoffMs({ baseMs, multiplier: BACKOFF_MULTIPLIER, maxMs }, attempts, random);
}

/** Whether the agent can get the rest of a stream with ids itself, as the earlier revisions let it. */
export function isResumable({ reason }: McpFailure, { revision }: Pick<McpRequest, 'revision'>): boolean {
  return reason === 'answer_cut' && !revision.isStateless;
}

/** Whether an HTTP status is a failure of the attempt, and no answer for the agent. */
export function isFault(status: number, hasCalls: boolean, repeatable: boolean): boolean {
  // After a 421 clients send a request again by themselves.
  if (status >= 500 || status === 421) return hasCalls || repeatable;
  return status === 429 && repeatable;
}

export function outcomeOf({ reason }: McpFailure): McpOutcome {
  return reason === 'deadline' || reason === 'first_byte' || reason === 'idle' ? 'timeout' : 'failed';
}

/** @param deadlineMs of the call that the request is for; Infinity for none */
export function limitsOf(settings: McpSettings, request: McpRequest, deadlineMs: number): AttemptLimits {
  const { connectTimeoutMs, firstByteTimeoutMs, idleTimeoutMs, timeoutMs } = settings;
  const isOpenEnded = request.requests.some(({ method }) => isSubscription(method));
  return {
    connectTimeoutMs,
    firstByteTimeoutMs,
    idleTimeoutMs: isOpenEnded ? 0 : idleTimeoutMs,
    timeoutAtMs: timeoutMs > 0 && !isOpenEnded ? request.receivedMs + timeoutMs : Number.POSITIVE_INFINITY,
    deadlineMs,
  };
}
