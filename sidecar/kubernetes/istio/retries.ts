/**
 * Translates `retry` to Istio's retries.
 *
 * Without the sidecar nothing de-duplicates tasks, so Istio retries a call only when its pod provably never received
 * it, or when its method is declared idempotent. Istio's own default, two retries on `unavailable` and `cancelled`, can
 * run a task three times.
 */
import type { ClusterConfig } from '../../config/config.ts';
import type { StatusName } from '../../grpc/status.ts';
import { durationOf, type Fields, type Note, note, notesOf, spoken } from './resource.ts';

/** The connection failed, HTTP/2 refused the stream, or the stream was lost before the request's head was written. */
const UNTOUCHED = ['connect-failure', 'refused-stream', 'reset-before-request'];

/** The names of Envoy's router for the codes that it can retry. */
const GRPC_CONDITIONS: Readonly<Partial<Record<StatusName, string>>> = {
  CANCELLED: 'cancelled',
  DEADLINE_EXCEEDED: 'deadline-exceeded',
  INTERNAL: 'internal',
  RESOURCE_EXHAUSTED: 'resource-exhausted',
  UNAVAILABLE: 'unavailable',
};

/** Envoy's longest back-off is ten times the first, and Istio sets only the first. */
const ENVOY_BACKOFF_FACTOR = 10;

/** The retries of any call. */
export function retriesOfUntouched({ retry }: ClusterConfig): Fields {
  return {
    // With max_attempts 1 the sidecar, too, retries a request that was never processed.
    attempts: Math.max(1, retry.maxAttempts - 1),
    retryOn: UNTOUCHED.join(','),
    backoff: durationOf(retry.backoff.baseMs),
  };
}

/** The retries of idempotent methods; `undefined` when they get no more than others. */
export function retriesOfIdempotent(cluster: ClusterConfig): Fields | undefined {
  const { retry } = cluster;
  const codes = retry.on.flatMap((name) => GRPC_CONDITIONS[name] ?? []);
  // The sidecar reports a lost connection and silence as UNAVAILABLE; Envoy has a separate condition for them.
  const conditions = retry.on.includes('UNAVAILABLE') ? ['reset', ...codes] : codes;
  if (retry.maxAttempts === 1 || retry.idempotentMethods.length === 0 || conditions.length === 0)
    return undefined;
  return {
    attempts: retry.maxAttempts - 1,
    retryOn: [...UNTOUCHED, ...conditions].join(','),
    perTryTimeout: durationOf(perTryTimeoutMs(cluster)),
    backoff: durationOf(retry.backoff.baseMs),
  };
}

/** Notes on the `retries` at `path`. */
export function retryNotes(cluster: ClusterConfig, path: string, idempotent: boolean): Note[] {
  const { retry, hedge, task } = cluster;
  const unnamed = retry.on.filter((name) => GRPC_CONDITIONS[name] === undefined);
  const clocks = perTryTimeoutMs(cluster) > 0;
  const { baseMs, maxMs } = retry.backoff;
  if (idempotent) {
    return notesOf(
      note(
        path,
        "retry.idempotent_methods: these may run twice. Envoy's conditions read grpc-status only in responses without a message; Envoy does not retry a call that fails in trailers after a message.",
      ),
      unnamed.length > 0 && note(path, `retry.on ${unnamed.join(', ')}: Envoy has no condition for them.`),
      clocks &&
        note(
          `${path}.perTryTimeout`,
          'retry.per_try_timeout, first_chunk_timeout: in Istio the time to the response head, not to the first message.',
        ),
    );
  }
  return notesOf(
    note(
      path,
      `retry, max_attempts ${retry.maxAttempts}: only calls that a pod provably never received. The file states this, because Istio's default also retries unavailable and cancelled, after which a task may have run.`,
    ),
    task.deduplicate &&
      note(
        path,
        'task.deduplicate: no sidecar recognizes a task by its id, joins its run or replays its answer. So no other retry is safe, and Istio does not retry an attempt with an unknown outcome.',
      ),
    note(
      path,
      'Each hop retries independently: Istio neither obeys nor sends grpc-retry-pushback-ms and grpc-previous-rpc-attempts, so three hops with three attempts each make 27 attempts.',
    ),
    retry.idempotentMethods.length === 0 &&
      clocks &&
      note(
        path,
        'retry.per_try_timeout, first_chunk_timeout: omitted, because they would end calls that Istio may not retry.',
      ),
    note(
      path,
      `retry.buffer_bytes ${retry.bufferBytes}: Istio buffers a request up to the buffer limit of its connection, which no field of a route sets.`,
    ),
    maxMs !== baseMs * ENVOY_BACKOFF_FACTOR &&
      note(
        `${path}.backoff`,
        `retry.backoff.max ${spoken(maxMs)}: Istio has no setting for it; Envoy's is ${spoken(baseMs * ENVOY_BACKOFF_FACTOR)}.`,
      ),
    (hedge.delayMs > 0 || hedge.percentile > 0) &&
      note(path, 'hedge: Istio makes no second attempt beside a slow one.'),
  );
}

/** The shorter time limit of an attempt, 0 for none. */
function perTryTimeoutMs({ retry, firstChunkTimeoutMs }: ClusterConfig): number {
  const clocks = [retry.perTryTimeoutMs, firstChunkTimeoutMs].filter((ms) => ms > 0);
  return clocks.length === 0 ? 0 : Math.min(...clocks);
}
