/** Translates an agent's errors to gRPC statuses. */
import { Metadata, status } from '@grpc/grpc-js';
import {
  agentField,
  formatModelFailure,
  type ModelFailure,
  modelFailureIn,
} from '../protocol/model-failure.ts';
import {
  isConnectionError,
  isProviderError,
  isUnpaid,
  modelFailureOf,
  type ProviderError,
} from './provider-error.ts';

/** The statuses with which an agent answers itself: all of gRPC's but OK. */
export type AgentErrorCode = Exclude<keyof typeof status, 'OK'>;

export interface AgentErrorOptions {
  /** The invalid field of TaskRequest; sent as the trailer `agent-error-field`. */
  field?: string;
  /** When to try again, in milliseconds; negative for never. Sent as `grpc-retry-pushback-ms` (gRFC A6). */
  retryAfterMs?: number;
  /** The model provider's refusal; sent as the trailer `agent-error-model`. */
  model?: ModelFailure | undefined;
  /** Further trailers, such as `agent-error-reason`; `outrigger-reason` is a sidecar's word, and goes no further. */
  trailers?: Readonly<Record<string, string>>;
  cause?: unknown;
}

/** An error whose message is intended for the caller. Of any other error the caller receives only the kind. */
export class AgentError extends Error {
  override readonly name = 'AgentError';
  readonly code: AgentErrorCode;
  readonly field: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly model: ModelFailure | undefined;
  readonly trailers: Readonly<Record<string, string>>;

  constructor(code: AgentErrorCode, message: string, options: AgentErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.field = options.field;
    this.retryAfterMs = options.retryAfterMs;
    this.model = options.model;
    this.trailers = options.trailers ?? {};
  }
}

/** The status that the caller receives. */
export interface ErrorStatus {
  code: status;
  details: string;
  metadata: Metadata;
}

export function toStatus(error: AgentError): ErrorStatus {
  const metadata = new Metadata();
  if (error.field !== undefined) metadata.set('agent-error-field', error.field);
  if (error.retryAfterMs !== undefined) metadata.set('grpc-retry-pushback-ms', String(error.retryAfterMs));
  if (error.model !== undefined) metadata.set(agentField, formatModelFailure(error.model));
  for (const [name, value] of Object.entries(error.trailers)) metadata.set(name, value);
  return { code: status[error.code], details: error.message, metadata };
}

/**
 * Translates a thrown value for the caller:
 *
 *   an AgentError                        → its own status
 *   the provider answers 429             → RESOURCE_EXHAUSTED, with its Retry-After
 *   the provider demands payment         → RESOURCE_EXHAUSTED, and callers must not retry
 *   the provider answers 400, 413, 422   → INVALID_ARGUMENT: it rejected this input
 *   the provider answers 401, 403, 404   → INTERNAL: this agent is misconfigured, and a retry cannot help
 *   the provider answers 408, 409, 5xx, breaks off, or cannot be reached → UNAVAILABLE
 *   a call to another agent failed       → its status and reason if it also concerns the caller, otherwise INTERNAL
 *   anything else                        → INTERNAL, without its message
 *
 * The status includes the provider's own message, without keys.
 *
 * @param secrets texts to remove from the message, whatever they look like
 */
export function classify(error: unknown, secrets: readonly string[] = []): AgentError {
  if (error instanceof AgentError) return error;
  if (isProviderError(error)) return classifyProvider(error, secrets);
  const code = (error as { code?: unknown } | null | undefined)?.code;
  if (isServiceError(error)) return classifyAgentCall(error);
  if (isBrokenConnection(error, code)) {
    return new AgentError('UNAVAILABLE', 'the connection to the model provider broke', { cause: error });
  }
  if (endedEarly(error)) {
    return new AgentError('UNAVAILABLE', "the model's answer ended early", { cause: error });
  }
  return new AgentError('INTERNAL', 'the agent failed', { cause: error });
}

function classifyProvider(error: ProviderError, secrets: readonly string[]): AgentError {
  const { status: httpStatus } = error;
  const model = modelFailureOf(error, secrets);
  const options = { cause: error, model };
  const fail = (code: AgentErrorCode, what: string, more: AgentErrorOptions = {}) => {
    const said = model.message === '' ? '' : `: ${model.message}`;
    return new AgentError(code, `the model provider ${what}${said}`, { ...options, ...more });
  };
  if (isUnpaid(error)) {
    const how = httpStatus === undefined ? '' : ` (HTTP ${httpStatus})`;
    return fail('RESOURCE_EXHAUSTED', `demands payment from this agent${how}`, {
      retryAfterMs: -1,
    });
  }
  if (httpStatus === 429) {
    const retryAfterMs = retryAfter(error.headers);
    const more = retryAfterMs === undefined ? {} : { retryAfterMs };
    return fail('RESOURCE_EXHAUSTED', 'throttles this agent', more);
  }
  if (httpStatus === 400 || httpStatus === 413 || httpStatus === 422) {
    return fail('INVALID_ARGUMENT', 'refused the input');
  }
  if (httpStatus !== undefined && httpStatus < 500 && httpStatus !== 408 && httpStatus !== 409) {
    return fail('INTERNAL', `refused this agent (HTTP ${httpStatus})`);
  }
  if (isConnectionError(error)) return fail('UNAVAILABLE', 'cannot be reached');
  return fail(
    'UNAVAILABLE',
    httpStatus === undefined ? 'broke off its answer' : `failed (HTTP ${httpStatus})`,
  );
}

/** Retry-After in milliseconds: seconds or an HTTP date (RFC 9110, 10.2.3), or the finer retry-after-ms. */
function retryAfter(headers: Headers | undefined): number | undefined {
  const fine = Number(headers?.get('retry-after-ms') ?? Number.NaN);
  if (fine >= 0) return Math.ceil(fine);
  const text = headers?.get('retry-after') ?? '';
  if (/^\d{1,6}$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

interface AgentCallError {
  code: number;
  details: string;
  metadata: Metadata;
}

function isServiceError(error: unknown): error is AgentCallError {
  const candidate = error as { code?: unknown; metadata?: unknown } | null | undefined;
  return typeof candidate?.code === 'number' && candidate.metadata instanceof Metadata;
}

const passedOn: ReadonlyMap<number, AgentErrorCode> = new Map([
  [status.UNAVAILABLE, 'UNAVAILABLE'],
  [status.RESOURCE_EXHAUSTED, 'RESOURCE_EXHAUSTED'],
  [status.DEADLINE_EXCEEDED, 'DEADLINE_EXCEEDED'],
  [status.CANCELLED, 'CANCELLED'],
]);

function classifyAgentCall(error: AgentCallError): AgentError {
  const { code, details, metadata } = error;
  const name = passedOn.get(code);
  const model = modelFailureIn(metadata);
  if (name === undefined) {
    // This agent calls an unknown name, and the sidecar lists the known ones.
    const why = metadata.get('outrigger-reason')[0] === 'no_route' ? `: ${details}` : '';
    return new AgentError('INTERNAL', `a call to another agent failed${why}`, { cause: error, model });
  }
  const pushbackMs = Number(metadata.get('grpc-retry-pushback-ms')[0] ?? Number.NaN);
  return new AgentError(name, `a call to another agent ended with ${name}${reasonOf(error)}`, {
    cause: error,
    model,
    ...(Number.isInteger(pushbackMs) ? { retryAfterMs: pushbackMs } : {}),
  });
}

const mostReasonChars = 300;

/** What the other side says of it, on one line and bounded. An error of this side's own client tells addresses, and stays here. */
function reasonOf({ details, metadata }: AgentCallError): string {
  if (Object.keys(metadata.toHttp2Headers()).length === 0) return '';
  const line = details
    .slice(0, 4 * mostReasonChars)
    .replace(/[\p{C}\s]+/gu, ' ')
    // In a chain of agents, the reason counts, not the length of the chain.
    .replace(/^(?:a call to another agent ended with [A-Z_]+: )+/, '')
    .trim();
  if (line === '') return '';
  return `: ${line.length <= mostReasonChars ? line : `${line.slice(0, mostReasonChars - 1).toWellFormed()}…`}`;
}

/** The openai client's helpers (runTools, stream) find it out, and have no class for it. */
function endedEarly(error: unknown): boolean {
  return (
    error instanceof Error &&
    /^(?:missing finish_reason for choice|request ended without sending any chunks)/.test(error.message)
  );
}

/** fetch reports a truncated body as a TypeError "terminated", whose cause has undici's or the socket's code. */
function isBrokenConnection(error: unknown, code: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const deeper = (error.cause as { code?: unknown } | undefined)?.code;
  return [code, deeper].some(
    (value) => typeof value === 'string' && /^(UND_ERR_|ECONN|EPIPE|ETIMEDOUT)/.test(value),
  );
}
