/** Forwards a task's metadata to the calls that an agent makes for it. */
import { Metadata } from '@grpc/grpc-js';
import type { TaskRequest } from '../protocol/messages.ts';
import { traceHeaders } from '../tracing/tracing.ts';
import type { Work } from '../tracing/work.ts';

/**
 * The metadata that a task's own calls must carry, too: the trace context (in the formats of W3C, B3 and Jaeger, and
 * gRPC's binary form), W3C's baggage, and the ids by which logs and de-duplicating peers correlate calls.
 */
const forwardedNames = [...traceHeaders, 'grpc-trace-bin', 'baggage', 'x-request-id'] as const;

/** The metadata for calls to other agents; in the agent's own span if there is one. */
export function forwardedMetadata(incoming: Metadata, work: Work | undefined): Metadata {
  const forwarded = new Metadata();
  for (const name of forwardedNames) for (const value of incoming.get(name)) forwarded.add(name, value);
  if (work === undefined) return forwarded;
  // A header in another format would continue the trace at the wrong span.
  for (const name of traceHeaders) forwarded.remove(name);
  forwarded.remove('grpc-trace-bin');
  for (const [name, value] of Object.entries(work.headers)) forwarded.set(name, value);
  return forwarded;
}

/** The same as HTTP headers, for requests to the model provider. */
export function forwardedHeaders(
  incoming: Metadata,
  task: TaskRequest,
  work: Work | undefined,
): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const name of forwardedNames) {
    const value = incoming.get(name)[0];
    if (typeof value === 'string') headers[name] = value;
  }
  if (work !== undefined) {
    for (const name of traceHeaders) delete headers[name];
    Object.assign(headers, work.headers);
  }
  if (isHeaderValue(task.task_id)) headers['x-task-id'] = task.task_id;
  if (isHeaderValue(task.correlation_id)) headers['x-correlation-id'] = task.correlation_id;
  return headers;
}

/** Callers choose the ids: we omit a text that is too long or no valid header value (RFC 9110, 5.5). */
export function isHeaderValue(text: string): boolean {
  return /^[\x21-\x7e]{1,256}$/.test(text);
}
