/** What an answer is written to, whoever its caller is: a connection, several of them, or a wrapper around one. */
import type { HttpHeaders } from '../shared/headers.ts';

/**
 * Where an answer goes: the connection of one caller, or those of several who asked for the same.
 *
 *     fresh ──head──▶ begun ──end──▶ over
 *                       └──breakOff──▶ over
 */
export interface Sink {
  head(status: number, headers: HttpHeaders): void;
  /** Sends the head now, before there is a byte to go with it. */
  flushHead(): void;
  /** False: it is full; `onDrain` is called when it takes more. */
  write(bytes: Buffer): boolean;
  end(): void;
  /** The answer can't be completed: sends these last bytes, then breaks the connection so that no end is seen. */
  breakOff(last: Buffer | undefined): void;
  onDrain: () => void;
}
