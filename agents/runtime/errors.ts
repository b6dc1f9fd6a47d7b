import { Metadata, status } from '@grpc/grpc-js';
import OpenAI from 'openai';

/** The statuses an agent answers with of its own accord. */
export type AgentErrorCode =
  | 'INVALID_ARGUMENT'
  | 'FAILED_PRECONDITION'
  | 'RESOURCE_EXHAUSTED'
  | 'UNAVAILABLE'
  | 'DEADLINE_EXCEEDED'
  | 'CANCELLED'
  | 'INTERNAL';

export interface AgentErrorOptions {
  /** The field of TaskRequest at fault; sent as the trailer `agent-error-field`. */
  field?: string;
  /** When it is worth trying again, in milliseconds; sent as `grpc-retry-pushback-ms` (gRFC A6). */
  retryAfterMs?: number;
  cause?: unknown;
}

/** An error whose message is meant for the caller. Any other error reaches the caller as its kind only. */
export class AgentError extends Error {
  override readonly name = 'AgentError';
  readonly code: AgentErrorCode;
  readonly field: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(code: AgentErrorCode, message: string, options: AgentErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.field = options.field;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** What goes to the caller. */
export interface ErrorStatus {
  code: status;
  details: string;
  metadata: Metadata;
}

export function toStatus(error: AgentError): ErrorStatus {
  const metadata = new Metadata();
  if (error.field !== undefined) metadata.set('agent-error-field', error.field);
  if (error.retryAfterMs !== undefined) metadata.set('grpc-retry-pushback-ms', String(error.retryAfterMs));
  return { code: status[error.code], details: error.message, metadata };
}

/**
 * Says what a thrown value means to the caller:
 *
 *   an AgentError                        → as it says
 *   the provider answers 429             → RESOURCE_EXHAUSTED, with its Retry-After
 *   the provider answers 400, 413, 422   → INVALID_ARGUMENT: it could not take this input
 *   the provider answers 401, 403, 404   → INTERNAL: this agent is set up wrongly, and retrying cannot help
 *   the provider answers 408, 409, 5xx, breaks off, or cannot be reached → UNAVAILABLE
 *   a call to another agent failed       → its status where that concerns the caller too, else INTERNAL
 *   anything else                        → INTERNAL, without its message
 */
export function classify(error: unknown): AgentError {
  if (error instanceof AgentError) return error;
  if (error instanceof OpenAI.APIError) return classifyProvider(error);
  const code = (error as { code?: unknown } | null | undefined)?.code;
  if (isServiceError(error)) return classifyAgentCall(error);
  if (isBrokenConnection(error, code)) {
    return new AgentError('UNAVAILABLE', 'the connection to the model provider broke', { cause: error });
  }
  return new AgentError('INTERNAL', 'the agent failed', { cause: error });
}

function classifyProvider(error: InstanceType<typeof OpenAI.APIError>): AgentError {
  const { status: httpStatus } = error;
  if (httpStatus === 429) {
    const retryAfterMs = retryAfter(error.headers);
    return new AgentError('RESOURCE_EXHAUSTED', 'the model provider is throttling this agent', {
      cause: error,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    });
  }
  if (httpStatus === 400 || httpStatus === 413 || httpStatus === 422) {
    return new AgentError('INVALID_ARGUMENT', 'the model provider refused the input', { cause: error });
  }
  if (httpStatus !== undefined && httpStatus < 500 && httpStatus !== 408 && httpStatus !== 409) {
    return new AgentError('INTERNAL', `the model provider refused this agent (HTTP ${httpStatus})`, {
      cause: error,
    });
  }
  const message = httpStatus === undefined ? 'cannot be reached' : `is failing (HTTP ${httpStatus})`;
  return new AgentError('UNAVAILABLE', `the model provider ${message}`, { cause: error });
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
  if (name === undefined) {
    // The name that this agent calls is wrong, and the sidecar says which names there are.
    const why = metadata.get('outrigger-reason')[0] === 'no_route' ? `: ${details}` : '';
    return new AgentError('INTERNAL', `a call to another agent failed${why}`, { cause: error });
  }
  const pushbackMs = Number(metadata.get('grpc-retry-pushback-ms')[0] ?? Number.NaN);
  return new AgentError(name, `a call to another agent ended with ${name}`, {
    cause: error,
    ...(Number.isInteger(pushbackMs) ? { retryAfterMs: pushbackMs } : {}),
  });
}

/** fetch reports a body that breaks off as a TypeError "terminated" whose cause has undici's or the socket's code. */
function isBrokenConnection(error: unknown, code: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const deeper = (error.cause as { code?: unknown } | undefined)?.code;
  return [code, deeper].some(
    (value) => typeof value === 'string' && /^(UND_ERR_|ECONN|EPIPE|ETIMEDOUT)/.test(value),
  );
}
