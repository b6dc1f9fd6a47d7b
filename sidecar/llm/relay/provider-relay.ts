/** Describes one request on its way to a provider, over any version of HTTP, and what its owner receives. */
import type { HttpHeaders } from '../shared/headers.ts';

export interface RelayError {
  readonly code: string;
  /** There was a connection: the provider may have read the request. */
  readonly connected: boolean;
  /** The connection was used before: the provider may have closed it at this moment. */
  readonly reused: boolean;
  /** HTTP/2 says that the provider has not worked on the request (RFC 9113, section 8.7). */
  readonly unprocessed?: boolean;
}

/** The relay calls exactly one of `onEnd`, `onError` and `onUnusable`, last; and nothing after `abort`. */
export interface RelayHandlers {
  /** There is a connection, after TLS's handshake where it has TLS. */
  onConnected(): void;
  /** @param costBytes what the head takes in memory */
  onHead(status: number, headers: HttpHeaders, costBytes: number): void;
  onData(chunk: Buffer): void;
  onEnd(): void;
  onError(error: RelayError): void;
  /**
   * The provider has answered in a way that HTTP does not allow here, or that the egress can't handle.
   *
   * @param what describes the answer for operators, without any part of a body
   */
  onUnusable(what: string): void;
}

export interface ProviderRelay {
  /** The last byte of the request has gone out on a connection: the provider can work on it. */
  readonly sent: boolean;
  pause(): void;
  resume(): void;
  /** Closes the request to the provider at once. */
  abort(): void;
}

/** The listener's bound for header lists; Node's own bound is a quarter of it. */
export const MAX_HEADER_BYTES = 65_536;

/** The most interim answers: one every few seconds for many minutes. Go's client takes five; most have no bound. */
export const MAX_INTERIM_ANSWERS = 128;
