/** What a gRPC listener is told about itself and its process. */
import type { TimerWheel } from '../clock/timer-wheel.ts';
import type { Announcement } from '../grpc/sidecar-settings.ts';
import type { ConnectionError } from '../http2/errors.ts';
import type { ConnectionLimits } from '../http2/limits.ts';
import type { CredentialsListener } from '../tls/credentials.ts';

/** The announcements of a listener to its downstreams, and the limits that it sets them. */
export interface GrpcListenerOptions extends Announcement {
  readonly limits: ConnectionLimits;
  readonly maxConnections: number;
  /** Callers share `maxConnections`: see `connection-places.ts`. */
  readonly sharesConnections: boolean;
  /** Keepalive towards downstreams; `timeMs` 0 is off. */
  readonly keepalive: { readonly timeMs: number; readonly timeoutMs: number };
  /** 0 means no limit. Each connection gets up to 10 % more or less, so that they do not all close at once. */
  readonly maxConnectionAgeMs: number;
}

export interface GrpcListenerEnvironment {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly random: () => number;
  /** Identifies this sidecar among all others. */
  readonly instance: string;
  /** A connection failed or was refused; for the log. */
  onConnectionError(listener: string, error: ConnectionError): void;
  /** Receives the changes of certificates that come from files. */
  readonly certificates?: CredentialsListener | undefined;
}

/** How many connections may have a place. */
export function placesOf({ maxConnections, sharesConnections }: GrpcListenerOptions): number {
  return sharesConnections ? maxConnections : Number.POSITIVE_INFINITY;
}

/** Twice the places, because sockets that are being closed for new ones still count. */
export function mostSockets({ maxConnections, sharesConnections }: GrpcListenerOptions): number {
  return sharesConnections ? 2 * maxConnections : maxConnections;
}
