/** The ids in a request's head that may show which inbound call it belongs to. */
import { traceparentFromBinary } from '../telemetry/trace-context.ts';
import type { PassedIds } from './passed-ids.ts';

/** Ids that a request of the app carries; '' for each that it does not. */
export interface RequestIds {
  readonly traceparent: string;
  readonly traceBinary: string;
  readonly passed: PassedIds | undefined;
}

const NO_IDS: readonly string[] = [];

/** The ids of all traces that a request is part of; an entry may be ''. */
export function traceIdsOf(ids: RequestIds): readonly string[] {
  const own = traceIdOf(ids.traceparent);
  if (ids.passed === undefined && ids.traceBinary === '') return own === '' ? NO_IDS : [own];
  return [own, binaryTraceOf(ids), ...(ids.passed?.traceIds ?? NO_IDS)];
}

/** The trace id of libraries that used `grpc-trace-bin` before there was `traceparent`. */
export function binaryTraceOf({ traceBinary }: Pick<RequestIds, 'traceBinary'>): string {
  return traceBinary === '' ? '' : traceIdOf(traceparentFromBinary(traceBinary) ?? '');
}

/**
 * The trace id of `version-traceid-parentid-flags` (W3C trace context); '' when it is malformed. Others read the other
 * parts.
 */
export function traceIdOf(traceparent: string): string {
  if (traceparent.length < 55 || traceparent.charCodeAt(2) !== 45 || traceparent.charCodeAt(35) !== 45)
    return '';
  return traceparent.slice(3, 35);
}
