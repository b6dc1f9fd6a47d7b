/** Errors of the REST API, and their translation from gRPC statuses. */
import { type ServiceError, status } from '@grpc/grpc-js';
import { describeModelFailure, type ModelFailure, modelFailureIn } from '../protocol/model-failure.ts';

export interface ApiErrorOptions {
  /** The invalid field of the request. */
  field?: string | undefined;
  /** Why a sidecar answered instead of the agent, such as `circuit_open`. */
  reason?: string | undefined;
  /** The time until the next try, in whole seconds. */
  retryAfterS?: number | undefined;
  /** Why the agent's model did not answer. */
  model?: ModelFailure | undefined;
  cause?: unknown;
}

/** An error that a client of the API sees. All codes are names of gRPC statuses. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly httpStatus: number;
  readonly code: string;
  readonly field: string | undefined;
  readonly reason: string | undefined;
  readonly retryAfterS: number | undefined;
  readonly model: ModelFailure | undefined;

  constructor(httpStatus: number, code: string, message: string, options: ApiErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.httpStatus = httpStatus;
    this.code = code;
    this.field = options.field;
    this.reason = options.reason;
    this.retryAfterS = options.retryAfterS;
    this.model = options.model;
  }

  /** The body of the answer, or the data of an `error` event. */
  toBody(taskId: string): { error: object } {
    const { code, message, field, reason, model } = this;
    return {
      error: {
        code,
        message,
        ...(field === undefined ? {} : { field }),
        ...(reason === undefined ? {} : { reason }),
        ...(model === undefined ? {} : { model }),
        task_id: taskId,
      },
    };
  }
}

const usualRetryAfterS = 1;
const longestMessageChars = 500;

/**
 * Translates a failed call of an agent to HTTP:
 *
 *   INVALID_ARGUMENT                      422, with the field if the agent names it
 *   FAILED_PRECONDITION                   409
 *   UNAVAILABLE, CANCELLED                503 with Retry-After
 *   RESOURCE_EXHAUSTED  overloaded        503 with Retry-After: a sidecar sheds load
 *                       message_too_large 413
 *                       else              429 with Retry-After: the model provider throttles the agent; without it
 *                                         if the provider demands payment, which a negative pushback signals
 *   DEADLINE_EXCEEDED                     504
 *   anything else                         502
 *
 * The client receives the messages of statuses about its request. Other messages may hold addresses or the text of an
 * exception: they go to the log, and the client receives what it can act on. If the agent's model did not answer, every
 * error includes the provider's status and message, from which sidecars and agents have removed keys.
 */
export function fromServiceError(error: ServiceError, agentType: string): ApiError {
  const code = status[error.code] ?? 'UNKNOWN';
  const reason = firstText(error, 'outrigger-reason');
  const field = firstText(error, 'agent-error-field');
  const retryAfterS = retryAfter(error);
  const said = error.details.slice(0, longestMessageChars);
  const model = modelFailureIn(error.metadata);
  const because = model === undefined ? '' : `: ${describeModelFailure(model)}`;
  // Our agents repeat the provider's message in their own.
  const details = model === undefined || said.includes(model.message) ? said : said + because;
  const options = { field, reason, model, cause: error };
  switch (error.code) {
    case status.INVALID_ARGUMENT:
      return new ApiError(422, code, details, options);
    case status.FAILED_PRECONDITION:
      return new ApiError(409, code, details, options);
    case status.UNAVAILABLE:
    case status.CANCELLED: {
      const message = `the ${agentType} agent is not available; try again later${because}`;
      return new ApiError(503, code, message, { ...options, retryAfterS });
    }
    case status.RESOURCE_EXHAUSTED:
      if (reason === 'message_too_large') return new ApiError(413, code, 'the task is too large', options);
      if (reason === 'overloaded') return new ApiError(503, code, details, { ...options, retryAfterS });
      return new ApiError(429, code, details, pushback(error) < 0 ? options : { ...options, retryAfterS });
    case status.DEADLINE_EXCEEDED:
      return new ApiError(504, code, `the ${agentType} agent did not answer in time${because}`, options);
    case status.UNIMPLEMENTED: {
      // A sidecar's message about an unknown name: it lists the known names.
      const why = reason === 'no_route' ? `: ${details}` : '';
      return new ApiError(502, code, `no process serves the ${agentType} agent${why}`, options);
    }
    default:
      return new ApiError(502, code, `the ${agentType} agent failed${because}`, options);
  }
}

/** The pushback (gRFC A6) in whole seconds; a negative one means "never", which a 503 cannot express. */
function retryAfter(error: ServiceError): number {
  const pushbackMs = pushback(error);
  return pushbackMs >= 0 ? Math.max(1, Math.ceil(pushbackMs / 1000)) : usualRetryAfterS;
}

function pushback(error: ServiceError): number {
  return Number(firstText(error, 'grpc-retry-pushback-ms') ?? Number.NaN);
}

function firstText(error: ServiceError, name: string): string | undefined {
  const value = error.metadata?.get(name)[0];
  return typeof value === 'string' && value !== '' ? value : undefined;
}
