/** Holds what has come of an HTTP/2 answer while its caller does not read, within a bound over all answers. */

/** Above it, an answer that holds its share ends, because its caller does not read. */
const MAX_BYTES = 67_108_864;
/** What each answer may hold in any case. */
const SHARE_BYTES = 65_536;

/** The bytes of all answers. */
let allBytes = 0;

export class UnreadAnswer {
  private readonly consume: (bytes: number) => void;
  private pieces: Buffer[] = [];
  private next = 0;
  private bytes = 0;

  /** @param consume the provider may send so many bytes again */
  constructor(consume: (bytes: number) => void) {
    this.consume = consume;
  }

  /** Returns false when there is no room. */
  push(piece: Buffer): boolean {
    if (allBytes > MAX_BYTES && this.bytes > SHARE_BYTES) return false;
    this.pieces.push(piece);
    this.bytes += piece.length;
    allBytes += piece.length;
    return true;
  }

  /** Returns the oldest piece; undefined when none waits. */
  take(): Buffer | undefined {
    const piece = this.pieces[this.next];
    if (piece === undefined) return undefined;
    this.next++;
    if (this.next === this.pieces.length) {
      this.pieces = [];
      this.next = 0;
    }
    this.bytes -= piece.length;
    allBytes -= piece.length;
    this.consume(piece.length);
    return piece;
  }

  drop(): void {
    allBytes -= this.bytes;
    this.bytes = 0;
    this.pieces = [];
    this.next = 0;
  }
}
