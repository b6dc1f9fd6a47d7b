/** The interfaces of what an answer needs whose caller may come back: its call, and who keeps it meanwhile. */
import type { Stream } from '../http2/streams.ts';
import type { Room } from './spare-memory.ts';

/** The call whose answer it is. */
export interface ReturningCall {
  readonly stream: Stream;
  readonly head: { readonly path: string };
  readonly callerScope: string;
  readonly request: { readonly ended: boolean };
  /** Its answer goes on over another stream. */
  moveTo(stream: Stream): void;
  /**
   * Bytes that had waited were sent over the new stream.
   *
   * @param againBytes wait there still, and had been sent before
   */
  onMoved(stream: Stream, bytes: number, againBytes: number): void;
  /** Its caller did not come back in time. */
  endReturn(): void;
}

/** Who keeps such streams (`resumptions.ts`). */
export interface Keeper<Kept> {
  readonly room: Room;
  /** Nothing is left to come back for. */
  forget(stream: Kept): void;
  /** Its call is over, and its caller may not have received the end. */
  keepEnd(stream: Kept): void;
  /** It lost its connection. */
  await(stream: Kept): void;
}
