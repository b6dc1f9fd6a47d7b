/** The error handlers of the REST API. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { ApiError } from './api-error.ts';

/** Answers a request with an error in the format of the API. */
function sendError(reply: FastifyReply, request: FastifyRequest, error: ApiError): FastifyReply {
  if (error.retryAfterS !== undefined) reply.header('retry-after', error.retryAfterS);
  return reply.code(error.httpStatus).send(error.toBody(request.id));
}

/** Answers for errors that a route threw, or that fastify found in the request. */
export function errorHandler(error: FastifyError | ApiError, request: FastifyRequest, reply: FastifyReply) {
  const told = error instanceof ApiError ? error : fromFastify(error);
  if (told.httpStatus === 500) request.log.error({ err: error }, 'a request failed');
  else request.log.info({ code: told.code, reason: told.reason, cause: causeOf(told) }, told.message);
  return sendError(reply, request, told);
}

export function notFoundHandler(request: FastifyRequest, reply: FastifyReply) {
  const path = request.url.split('?', 1)[0];
  return sendError(reply, request, new ApiError(404, 'NOT_FOUND', `unknown path: ${request.method} ${path}`));
}

function fromFastify(error: FastifyError): ApiError {
  const [first] = error.validation ?? [];
  if (first !== undefined) {
    const { missingProperty, additionalProperty } = first.params as Record<string, string | undefined>;
    const path = first.instancePath.slice(1).replaceAll('/', '.');
    const field = [path, missingProperty ?? additionalProperty].filter(Boolean).join('.') || 'body';
    const known =
      error.validationContext === 'querystring' ? 'is no parameter here' : 'is not a field of a task';
    const what = additionalProperty === undefined ? first.message : known;
    const message = missingProperty === undefined ? `${field} ${what}` : `${field} is required`;
    return new ApiError(422, 'INVALID_ARGUMENT', message, { field });
  }
  const httpStatus = error.statusCode ?? 500;
  if (httpStatus >= 500)
    return new ApiError(500, 'INTERNAL', 'internal error of the gateway', { cause: error });
  const code = httpStatus === 413 ? 'RESOURCE_EXHAUSTED' : 'INVALID_ARGUMENT';
  return new ApiError(httpStatus, code, error.message, { cause: error });
}

function causeOf({ cause }: ApiError): string | undefined {
  return cause instanceof Error ? cause.message : undefined;
}
