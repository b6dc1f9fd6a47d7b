/**
 * Joins the small pieces that a parser hands out of one read, so that later steps do not handle a buffer for each byte of
 * an answer. A single piece goes on as it is.
 */

/** A larger piece goes on by itself. */
const JOINED_BYTES = 4_096;

/** An object rather than a function: that saves a closure for each answer. */
export interface PiecesTaker {
  takePieces(bytes: Buffer): void;
}

export class JoinedPieces {
  private readonly taker: PiecesTaker;
  /** The first piece, while it is the only one. */
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

  /** Hands on what is here: no more pieces of this read follow. */
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

/** Returns a buffer that is little larger than the bytes, because a later step may keep it. */
function trimmed(joined: Buffer, length: number): Buffer {
  if (2 * length >= joined.length) return joined.subarray(0, length);
  const copy = Buffer.allocUnsafeSlow(length);
  joined.copy(copy, 0, 0, length);
  return copy;
}
