/** Memory that streams have given back, by its size: with new buffers each time the garbage collector has much to do. */

/** By size, the one that was wanted last at the end. */
const spare = new Map<number, Buffer[]>();
const SPARE_MAX_BYTES = 4_194_304;
let spareBytes = 0;

export function takeMemory(bytes: number): Buffer {
  const known = spare.get(bytes) ?? [];
  spare.delete(bytes);
  spare.set(bytes, known);
  const buffer = known.pop();
  if (buffer === undefined) return Buffer.allocUnsafeSlow(bytes);
  spareBytes -= bytes;
  return buffer;
}

export function giveMemory(buffer: Buffer): void {
  const bytes = buffer.length;
  if (bytes === 0) return;
  while (spareBytes + bytes > SPARE_MAX_BYTES) if (!dropBefore(bytes)) return;
  spareBytes += bytes;
  const known = spare.get(bytes);
  if (known === undefined) spare.set(bytes, [buffer]);
  else known.push(buffer);
}

/** Makes room by a buffer of a size that nobody has wanted for longer: otherwise those would fill it for ever. */
function dropBefore(bytes: number): boolean {
  for (const [size, buffers] of spare) {
    if (size === bytes) return false;
    if (buffers.pop() === undefined) spare.delete(size);
    else {
      spareBytes -= size;
      return true;
    }
  }
  return false;
}

/** Memory that several users share. */
export interface Room {
  /** @returns false when there is not so much */
  take(bytes: number): boolean;
  give(bytes: number): void;
}
