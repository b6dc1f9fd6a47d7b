/**
 * Finds the calls that wait for an answer, by reading the streams of the connections once a second. The calls
 * themselves pay nothing for it.
 */
import type { Cluster } from '../cluster/cluster.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import type { Connection } from '../http2/connection.ts';
import { LongestWaits } from '../policy/now/waits.ts';
import { Attempt } from '../proxy/attempt.ts';

/** The streams examined of one endpoint; the others count as similar. */
const MAX_STREAMS = 2_000;
const MAX_METHODS = 256;
/** We ask for a sign of life after a call has waited this long on a connection that was silent for as long. */
const REQUEST_AFTER_MS = 2_000;
/** How often we ask a connection again while calls still wait there. */
const REQUEST_AGAIN_MS = 5_000;

export interface ClusterWaits {
  readonly ofEndpoint: ReadonlyMap<Endpoint, LongestWaits>;
  /** By path. */
  readonly ofMethod: ReadonlyMap<string, LongestWaits>;
}

/** When we last requested a sign of life on each connection. */
export type SignRequests = WeakMap<Connection, number>;

/**
 * @param signRequests given for a cluster whose endpoints we ask for a sign of life when calls wait in silence. A stopped
 * process and one that works on a long task look the same; only the second one answers
 */
export function waitsOf(
  cluster: Cluster,
  nowMs: number,
  signRequests: SignRequests | undefined,
): ClusterWaits {
  const ofEndpoint = new Map<Endpoint, LongestWaits>();
  const ofMethod = new Map<string, LongestWaits>();
  for (const endpoint of cluster.servingEndpoints()) {
    if (endpoint.activeCalls === 0) continue;
    const waits = waitsAt(
      endpoint,
      nowMs,
      (connection, { longestMs }) => {
        if (signRequests !== undefined)
          requestSignInSilence(cluster, endpoint, connection, longestMs, signRequests, nowMs);
      },
      ofMethod,
    );
    if (waits.waiting > 0) ofEndpoint.set(endpoint, waits);
  }
  return { ofEndpoint, ofMethod };
}

/** The calls that only the endpoint delays: it has the whole request, and has not begun to answer. */
export function waitsAt(
  endpoint: Endpoint,
  nowMs: number,
  onConnection: (connection: Connection, waits: LongestWaits) => void = () => {},
  ofMethod?: Map<string, LongestWaits>,
): LongestWaits {
  const all = new LongestWaits();
  let left = MAX_STREAMS;
  for (const connection of endpoint.pool.connections) {
    const here = new LongestWaits();
    for (const { handler, canSend } of connection.streams) {
      if (left-- === 0) return all;
      if (!(handler instanceof Attempt) || canSend || handler.answered || handler.ended) continue;
      const waitMs = nowMs - handler.startedAtMs;
      here.add(waitMs);
      all.add(waitMs);
      if (ofMethod !== undefined) waitsOfMethod(ofMethod, handler.method)?.add(waitMs);
    }
    if (here.waiting > 0) onConnection(connection, here);
  }
  return all;
}

function waitsOfMethod(ofMethod: Map<string, LongestWaits>, path: string): LongestWaits | undefined {
  let waits = ofMethod.get(path);
  if (waits === undefined && ofMethod.size < MAX_METHODS) {
    waits = new LongestWaits();
    ofMethod.set(path, waits);
  }
  return waits;
}

function requestSignInSilence(
  cluster: Cluster,
  endpoint: Endpoint,
  connection: Connection,
  longestMs: number,
  signRequests: SignRequests,
  nowMs: number,
): void {
  if (longestMs < REQUEST_AFTER_MS || nowMs - connection.lastReadAtMs < REQUEST_AFTER_MS) return;
  if (nowMs - (signRequests.get(connection) ?? Number.NEGATIVE_INFINITY) < REQUEST_AGAIN_MS) return;
  signRequests.set(connection, nowMs);
  cluster.silence.requestSign(endpoint, connection);
}
