/** The size of a block: the payload of a whole DATA frame. */
const REQUEST_BLOCK_BYTES = 16_384;
/** The first slab, which stays, has room for usual load. */
const FIRST_BYTES = 1_048_576;
/**
 * Further slabs are larger than the allocator's limit for keeping freed memory (with glibc 32 MiB at most, by its
 * `M_MMAP_THRESHOLD`), so that all of it returns to the system. Pages that were never used take no memory.
 */
const SLAB_BYTES = 34_603_008;

class Slab {
  readonly memory: Buffer;
  /** The numbers of the free blocks. */
  readonly free: number[] = [];
  /** For each block 1 if it is in use. */
  readonly taken: Uint8Array;

  constructor(bytes: number) {
    const blocks = bytes / REQUEST_BLOCK_BYTES;
    this.memory = Buffer.allocUnsafeSlow(bytes);
    this.taken = new Uint8Array(blocks);
    // We use the first blocks first, and the pages after them perhaps never.
    for (let number = blocks - 1; number >= 0; number--) this.free.push(number);
  }

  get isFree(): boolean {
    return this.free.length === this.taken.length;
  }
}

/**
 * The memory of kept requests, in blocks that are used again when their request has ended. Buffers of their own would need the
 * garbage collector first, while a flood continues to bring more, and memory freed between others would stay with the process.
 *
 * The bytes of a block are valid until it is given back. Let no other code keep a view of it.
 */
class RequestBlocks {
  private readonly slabs: Slab[] = [];
  private readonly byMemory = new Map<ArrayBufferLike, Slab>();

  /** Whether the buffer is part of a block, which other requests will overwrite. */
  has(buffer: Buffer): boolean {
    return this.byMemory.has(buffer.buffer);
  }

  /** @returns a block of {@link REQUEST_BLOCK_BYTES} with old content */
  take(): Buffer {
    const slab = this.slabs.find(({ free }) => free.length > 0) ?? this.another();
    const number = slab.free.pop()!;
    slab.taken[number] = 1;
    return slab.memory.subarray(number * REQUEST_BLOCK_BYTES, (number + 1) * REQUEST_BLOCK_BYTES);
  }

  /** Gives a block back, by a view that begins at its first byte. Does nothing with other buffers. */
  give(block: Buffer): void {
    const slab = this.byMemory.get(block.buffer);
    if (slab === undefined) return;
    const number = block.byteOffset / REQUEST_BLOCK_BYTES;
    if (slab.taken[number] !== 1)
      throw new Error('a block of a request was given back twice; this is a defect');
    slab.taken[number] = 0;
    slab.free.push(number);
    if (slab.isFree && slab !== this.slabs[0]) this.drop(slab);
  }

  private another(): Slab {
    const slab = new Slab(this.slabs.length === 0 ? FIRST_BYTES : SLAB_BYTES);
    this.slabs.push(slab);
    this.byMemory.set(slab.memory.buffer, slab);
    return slab;
  }

  private drop(slab: Slab): void {
    this.slabs.splice(this.slabs.indexOf(slab), 1);
    this.byMemory.delete(slab.memory.buffer);
  }
}

export const requestBlocks = new RequestBlocks();
