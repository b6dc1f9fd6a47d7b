import type { ConnectionError } from './errors.ts';
import type { MessageHead } from './head.ts';
import type { HeaderList } from './hpack/header-list.ts';
import type { ConnectionLimits } from './limits.ts';
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
  /** How often the peer may send PINGs when no call moves (servers); 0, and nothing, is as often as it likes. */
  readonly minPingIntervalMs?: number;
  /** Tasks with requests up to so many bytes are run once, however often they are sent (servers); announced to the peer. */
  readonly tasksOnceMaxBytes?: number;
  /** Compressed ones, too, by these encodings (bits); announced likewise. */
  readonly tasksOnceEncodings?: number;
}
