/**
 * Joins the small pieces in which a parser hands out what has come at once, so that nothing behind it works on, keeps or
 * writes a buffer for each byte of an answer. A single piece goes on as it is.
 */

/** Larger pieces go on by themselves. */
const JOINED_BYTES = 4_096;

/** An object and no function: one closure less for each answer. */
export interface PiecesTaker {
  takePieces(bytes: Buffer): void;
}

export class JoinedPieces {
  private readonly taker: PiecesTaker;
  /** The first of them, while it is the only one. */
  private first: Buffer | undefined = undefined;
  private joined: Buffer | undefined = undefined;
  private length = 0;

  constructor(taker: PiecesTaker) {
    this.taker = taker;
  }

  get isEmpty(): boolean {
    return this.length === 0;
  }

  push(piece: Buffer): void {
    if (this.length + piece.length > JOINED_BYTES) this.flush();
    if (this.length === 0) {
      if (piece.length >= JOINED_BYTES) {
        this.taker.takePieces(piece);
        return;
      }
      this.first = piece;
      this.length = piece.length;
      return;
    }
    if (this.first !== undefined) {
      this.joined = Buffer.allocUnsafeSlow(JOINED_BYTES);
      this.first.copy(this.joined);
      this.first = undefined;
    }
    piece.copy(this.joined!, this.length);
    this.length += piece.length;
  }

  /** Nothing comes with what is here. */
  flush(): void {
    if (this.length === 0) return;
    const length = this.length;
    const bytes = this.first ?? trimmed(this.joined!, length);
    this.first = undefined;
    this.joined = undefined;
    this.length = 0;
    this.taker.takePieces(bytes);
  }
}

/** Whoever keeps it keeps little more than its bytes. */
function trimmed(joined: Buffer, length: number): Buffer {
  if (2 * length >= joined.length) return joined.subarray(0, length);
  const copy = Buffer.allocUnsafeSlow(length);
  joined.copy(copy, 0, 0, length);
  return copy;
}
