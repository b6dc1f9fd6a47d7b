/** Copies up to this size share a block: a buffer of its own costs the collector more than its bytes. */
export const SHORT_COPY_MAX_BYTES = 1_024;
/** Who keeps one copy keeps all of its block alive, so that blocks are small. */
const BLOCK_BYTES = 8_192;

let block: Buffer = Buffer.alloc(0);
let used = 0;

/** Copies at most {@link SHORT_COPY_MAX_BYTES} bytes to where nobody else writes. */
export function shortCopy(buffer: Buffer, start: number, end: number): Buffer {
  const length = end - start;
  if (used + length > block.length) {
    // Not from Node's pool, which others use, too: a page of it would hold on to their bytes.
    block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    used = 0;
  }
  const copy = block.subarray(used, used + length);
  buffer.copy(copy, 0, start, end);
  used += length;
  return copy;
}
