/** Copies up to this size share a block, because a buffer of its own costs the garbage collector more than the bytes. */
export const SHORT_COPY_MAX_BYTES = 1_024;
/** One copy keeps its whole block alive, so blocks are small. */
const BLOCK_BYTES = 8_192;

let block: Buffer = Buffer.alloc(0);
let used = 0;

/** Copies at most {@link SHORT_COPY_MAX_BYTES} bytes to memory that nothing else writes. */
export function shortCopy(buffer: Buffer, start: number, end: number): Buffer {
  const length = end - start;
  if (used + length > block.length) {
    // Not from Node's pool, because a page of it would keep the bytes of its other users alive.
    block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    used = 0;
  }
  const copy = block.subarray(used, used + length);
  buffer.copy(copy, 0, start, end);
  used += length;
  return copy;
}
