/** The interface of the code that accepts or opens connections, and its options. */
import type { ConnectionError } from './errors.ts';
import type { ForeignClient } from './foreign.ts';
import type { MessageHead } from './head.ts';
import type { KnownName } from './hpack/field-treatment.ts';
import type { HeaderList } from './hpack/header-list.ts';
import type { ConnectionLimits } from './limits.ts';
import type { SettingsExtension } from './settings.ts';
import type { Stream } from './streams.ts';

/** The owner of a connection of type `C`, which it has accepted or opened. No method may throw. */
export interface ConnectionOwner<C> {
  /** A request has arrived (servers). The owner sets `stream.handler` before it returns. */
  onStream(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void;
  /** The peer has broken HTTP/2 on too many streams (clients): open no more streams there. */
  onFaulty?(connection: C): void;
  /** A request was malformed (servers; RFC 9113 §8.1.1). The connection has reset its stream, which has no handler. */
  onMalformedRequest?(connection: C, message: string): void;
  /** The connection has refused a stream above the limit (servers; RFC 9113 §5.1.2). The peer may send it again. */
  onStreamRefused?(connection: C): void;
  /** The peer's first SETTINGS have arrived: a client may open streams. */
  onReady(connection: C): void;
  /** There may be room for another stream (clients), for example because one has ended. */
  onCapacity(connection: C): void;
  /** Further SETTINGS have arrived (clients). @param maxStreamsBefore the number of streams that the peer allowed before */
  onPeerSettings?(connection: C, maxStreamsBefore: number): void;
  /** A client's first bytes are not the preface (servers; RFC 9113 §3.4). The owner ends the connection. */
  onForeignClient(connection: C, looksLike: ForeignClient): void;
  /** A server's first bytes begin no HTTP/2 frame (clients). The owner ends the connection. */
  onForeignServer(connection: C, begins: Buffer): void;
  /** The peer accepts no new streams. The streams that it has not processed fail right after this. */
  onGoaway(connection: C, code: number, debug: string): void;
  /** The connection has closed, and its streams have failed. Called once. */
  onClosed(connection: C, error: ConnectionError): void;
}

export interface ConnectionOptions {
  readonly role: 'server' | 'client';
  readonly limits: ConnectionLimits;
  /** Returns the milliseconds of a monotonic clock. */
  readonly clock: () => number;
  /** Judges the peer's PINGs; without it only the flood guard limits them. */
  readonly pings?: PingJudge;
  /** Settings beyond RFC 9113's. */
  readonly extension?: SettingsExtension;
  /** How to encode fields, by those names for which we know it beforehand. */
  readonly knownNames?: ReadonlyMap<string, KnownName>;
}

/** Decides when a peer has sent too many PINGs. */
export interface PingJudge {
  /**
   * A PING has arrived.
   *
   * @param streamFramesSent the number of HEADERS and DATA frames that this side has sent so far
   * @returns false to end the connection
   */
  accepts(nowMs: number, streamFramesSent: number): boolean;
  /** The debug data of that GOAWAY. */
  readonly reason: string;
  /** Why the connection ended, for the log. */
  readonly message: string;
}
