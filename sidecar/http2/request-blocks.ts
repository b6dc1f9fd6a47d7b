/** One block: the payload of a whole DATA frame. */
const REQUEST_BLOCK_BYTES = 16_384;
/** What is usually in use fits into this, which stays. */
const FIRST_BYTES = 1_048_576;
/**
 * More than that lies in slabs above the size up to which the allocator may keep what is freed (32 MiB at most with glibc, by
 * its `M_MMAP_THRESHOLD`), so that all of it goes back to the system. Pages that were never used are none of the process's.
 */
const SLAB_BYTES = 34_603_008;

class Slab {
  readonly memory: Buffer;
  /** Numbers of blocks that nobody has. */
  readonly free: number[] = [];
  /** By number, whether somebody has the block. */
  readonly taken: Uint8Array;

  constructor(bytes: number) {
    const blocks = bytes / REQUEST_BLOCK_BYTES;
    this.memory = Buffer.allocUnsafeSlow(bytes);
    this.taken = new Uint8Array(blocks);
    // The first ones are used first, and pages behind them perhaps never.
    for (let number = blocks - 1; number >= 0; number--) this.free.push(number);
  }

  get isFree(): boolean {
    return this.free.length === this.taken.length;
  }
}

/**
 * The memory that requests are kept in: blocks that are used again as soon as their request is done with. Buffers of their own
 * would have to be collected first, while a flood goes on bringing more, and what is freed in between others stays
 * with the process.
 *
 * Who has a block may not let anybody keep a view of it: its bytes are good until it is given back.
 */
class RequestBlocks {
  private readonly slabs: Slab[] = [];
  private readonly byMemory = new Map<ArrayBufferLike, Slab>();

  /** Lies this buffer in a block? Then it will be written to again. */
  has(buffer: Buffer): boolean {
    return this.byMemory.has(buffer.buffer);
  }

  /** @returns a block of {@link REQUEST_BLOCK_BYTES}, with anything in it */
  take(): Buffer {
    const slab = this.slabs.find(({ free }) => free.length > 0) ?? this.another();
    const number = slab.free.pop()!;
    slab.taken[number] = 1;
    return slab.memory.subarray(number * REQUEST_BLOCK_BYTES, (number + 1) * REQUEST_BLOCK_BYTES);
  }

  /** Gives a block back, by a view that begins where it begins. Other buffers are left to the collector. */
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
