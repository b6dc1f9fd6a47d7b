/**
 * Shares the memory for answers that are held, with their heads: until they are whole, until their first event, until the
 * decision on an error, or for callers that join late. Pure.
 *
 * Each answer has a little memory of its own. Above that, an answer without room passes as it comes, as very large ones
 * always do. So a few hundred answers at a time, each below its own bound, can't take the memory of the process.
 */

/** The memory that each answer has beside the shared one: enough for a usual answer. */
export const OWN_BYTES = 16_384;
const DEFAULT_MAX_BYTES = 33_554_432;
/** The memory of a buffer beside its bytes. It counts, because an answer may arrive byte by byte. */
export const CHUNK_COST_BYTES = 128;

/** Counts the shared memory of all answers. */
export class AnswerMemory {
  readonly maxBytes: number;
  bytes = 0;

  constructor(maxBytes = DEFAULT_MAX_BYTES) {
    this.maxBytes = maxBytes;
  }
}

export const answerMemory = new AnswerMemory();

/** Counts what one answer holds. */
export class HeldBytes {
  private readonly memory: AnswerMemory;
  private bytes = 0;
  private cleared = false;

  constructor(memory = answerMemory) {
    this.memory = memory;
  }

  /** Counts so many more bytes; returns false without room, and counts nothing then. */
  add(bytes: number): boolean {
    const shared = sharedOf(this.bytes + bytes) - sharedOf(this.bytes);
    if (this.cleared || (shared > 0 && this.memory.bytes + shared > this.memory.maxBytes)) return false;
    this.memory.bytes += shared;
    this.bytes += bytes;
    return true;
  }

  /** So many bytes are no longer held. */
  remove(bytes: number): void {
    if (!this.cleared) this.add(-bytes);
  }

  /** The answer holds nothing from now on. */
  clear(): void {
    this.remove(this.bytes);
    this.cleared = true;
  }
}

function sharedOf(bytes: number): number {
  return Math.max(0, bytes - OWN_BYTES);
}

/** Returns a count apart from the shared memory. */
export function heldAlone(): HeldBytes {
  return new HeldBytes(new AnswerMemory(Number.POSITIVE_INFINITY));
}
