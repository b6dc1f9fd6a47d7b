import type { ConnectionError } from './errors.ts';
import type { ForeignClient } from './foreign.ts';
import type { MessageHead } from './head.ts';
import type { KnownName } from './hpack/field-treatment.ts';
import type { HeaderList } from './hpack/header-list.ts';
import type { ConnectionLimits } from './limits.ts';
import type { SettingsExtension } from './settings.ts';
import type { Stream } from './streams.ts';

/** Who accepted or made a connection, which is a `C`. No method may throw. */
export interface ConnectionOwner<C> {
  /** A request came in (servers). The owner sets `stream.handler` before it returns. */
  onStream(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void;
  /** The peer has broken HTTP/2 on too many streams (clients): begin no more of them there. */
  onFaulty?(connection: C): void;
  /** What came in is no request (servers; RFC 9113 §8.1.1): its stream was reset, and nobody else hears of it. */
  onMalformedRequest?(connection: C, message: string): void;
  /** The peer has as many streams as it may have, and this one was refused (servers; RFC 9113 §5.1.2): it may send it again. */
  onStreamRefused?(connection: C): void;
  /** The peer's first SETTINGS are here: a client may open streams. */
  onReady(connection: C): void;
  /** A stream ended: there may be room for another (clients). */
  onCapacity(connection: C): void;
  /** SETTINGS came again (clients). @param maxStreamsBefore how many streams the peer allowed until now */
  onPeerSettings?(connection: C, maxStreamsBefore: number): void;
  /**
   * A client's first bytes are not the preface (servers; RFC 9113 §3.4): the owner ends the connection.
   */
  onForeignClient(connection: C, looksLike: ForeignClient): void;
  /** A server's first bytes begin no HTTP/2 frame (clients): the owner ends the connection. */
  onForeignServer(connection: C, begins: Buffer): void;
  /** The peer will take no new streams. Those it did not process fail right after this. */
  onGoaway(connection: C, code: number, debug: string): void;
  /** The connection is gone; its streams have failed already. Called once. */
  onClosed(connection: C, error: ConnectionError): void;
}

export interface ConnectionOptions {
  readonly role: 'server' | 'client';
  readonly limits: ConnectionLimits;
  /** Milliseconds from a monotonic clock. */
  readonly clock: () => number;
  /** Judges the peer's PINGs; without it the peer may send as many as the flood guard lets through. */
  readonly pings?: PingJudge;
  /** Settings beyond RFC 9113's. */
  readonly extension?: SettingsExtension;
  /** How fields are encoded, by their names, where it is known beforehand. */
  readonly knownNames?: ReadonlyMap<string, KnownName>;
}

/** Says when a peer has sent too many PINGs. */
export interface PingJudge {
  /**
   * A PING came in.
   *
   * @param streamFramesSent how many HEADERS and DATA frames this side has sent so far
   * @returns false when it was one too many: the connection ends
   */
  accepts(nowMs: number, streamFramesSent: number): boolean;
  /** GOAWAY's debug data then. */
  readonly reason: string;
  /** Why it has ended, for the log. */
  readonly message: string;
}
