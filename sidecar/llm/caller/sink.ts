/** Describes what receives an answer: a connection, several connections, or a wrapper around a sink. */
import type { HttpHeaders } from '../shared/headers.ts';
import type { ApiName } from '../shared/operation.ts';

/**
 * The receiver of an answer: the connection of one caller, or those of several callers with the same request.
 *
 *     fresh ──head──▶ begun ──end──▶ over
 *                       └──breakOff──▶ over
 */
export interface Sink {
  /** The API that the caller's client is written for; undefined where that is not known. */
  readonly api?: ApiName | undefined;
  head(status: number, headers: HttpHeaders): void;
  /** Sends the head now, before the first byte of the body. */
  flushHead(): void;
  /**
   * Returns false when the sink is full; it calls `onDrain` when it takes more.
   *
   * @param completes with these bytes the caller has all that it waits for, though more may follow
   */
  write(bytes: Buffer, completes?: boolean): boolean;
  end(): void;
  /** The answer stays incomplete: sends these last bytes, then breaks the connection, so that the caller sees no end. */
  breakOff(last: Buffer | undefined): void;
  onDrain: () => void;
}
