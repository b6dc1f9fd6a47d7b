/** Memory that streams have given back, by its size: with new buffers each time the garbage collector has much to do. */

const spare = new Map<number, Buffer[]>();
const SPARE_MAX_BYTES = 4_194_304;
let spareBytes = 0;

export function takeMemory(bytes: number): Buffer {
  const buffer = spare.get(bytes)?.pop();
  if (buffer === undefined) return Buffer.allocUnsafeSlow(bytes);
  spareBytes -= bytes;
  return buffer;
}

export function giveMemory(buffer: Buffer): void {
  const bytes = buffer.length;
  if (bytes === 0 || spareBytes + bytes > SPARE_MAX_BYTES) return;
  spareBytes += bytes;
  const known = spare.get(bytes);
  if (known === undefined) spare.set(bytes, [buffer]);
  else known.push(buffer);
}

/** Memory that several users share. */
export interface Room {
  /** @returns false when there is not so much */
  take(bytes: number): boolean;
  give(bytes: number): void;
}
