/** Memory for many short pieces, in blocks that are used again. */

/** A block, which gets the next pieces while it has room. The bytes of a piece are valid until the piece is given back. */
export class SharedBlock {
  readonly buffer: Buffer;
  /** The bytes given out. The piece that was taken last ends here. */
  used = 0;
  /** The pieces that were not given back. */
  pieces = 0;

  constructor(bytes: number) {
    // Not from Node's pool, because a page of it would keep the bytes of its other users alive.
    this.buffer = Buffer.allocUnsafeSlow(bytes);
  }
}

/**
 * Short pieces of memory that live for a call, or for a place in a ring. With a buffer for each of them, or blocks that are
 * dropped when they are full, the collector would have to find the free memory. V8 counts such memory as part of the old
 * generation, and a few MiB of it begin a collection of the whole heap: with 600 bytes a call, one for every 20,000 calls.
 *
 * One piece keeps its whole block from being used again. The blocks of pieces that are never given back are garbage.
 */
export class SharedBlocks {
  readonly blockBytes: number;
  private readonly spareMax: number;
  private readonly spare: SharedBlock[] = [];
  private current: SharedBlock | undefined = undefined;

  /** @param spareMax the most blocks without pieces to keep */
  constructor(blockBytes: number, spareMax: number) {
    this.blockBytes = blockBytes;
    this.spareMax = spareMax;
  }

  /**
   * Takes a piece, at most a block long: the last bytes of the used part of the returned block.
   *
   * @returns the block; give it back once for each piece
   */
  take(bytes: number): SharedBlock {
    let block = this.current;
    if (block === undefined || block.used + bytes > this.blockBytes) {
      block = this.spare.pop() ?? new SharedBlock(this.blockBytes);
      this.current = block;
    }
    block.pieces++;
    block.used += bytes;
    return block;
  }

  /** Takes a piece and copies these bytes into it. */
  copy(source: Buffer, start: number, end: number): SharedBlock {
    const block = this.take(end - start);
    source.copy(block.buffer, block.used - (end - start), start, end);
    return block;
  }

  /** Gives one piece of a block back. */
  give(block: SharedBlock): void {
    if (--block.pieces > 0) return;
    if (block.pieces < 0) throw new Error('a piece of a block was given back twice; this is a defect');
    block.used = 0;
    if (block !== this.current && this.spare.length < this.spareMax) this.spare.push(block);
  }

  /** Frees the blocks without pieces. */
  trim(): void {
    this.spare.length = 0;
    if (this.current?.pieces === 0) this.current = undefined;
  }
}
