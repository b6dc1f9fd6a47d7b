/**
 * Shares the memory for answers that are held, with their heads: until they are whole, until their first event, until it
 * is decided what becomes of an error, or for callers that join late. Pure.
 *
 * Each has a little of its own. Above that, what finds no room is not held: the answer is passed on as it comes, as very
 * large ones always are. So a few hundred answers at a time, each below its own bound, can't take the memory of the process.
 */

/** Of each answer, beside what is shared: a usual one, whole. */
export const OWN_BYTES = 16_384;
const DEFAULT_MAX_BYTES = 33_554_432;
/** What a buffer costs beside its bytes: an answer that comes byte by byte must not be many times its size. */
export const CHUNK_COST_BYTES = 128;

/** Counts what is shared, over all answers. */
export class AnswerMemory {
  readonly maxBytes: number;
  bytes = 0;

  constructor(maxBytes = DEFAULT_MAX_BYTES) {
    this.maxBytes = maxBytes;
  }
}

export const answerMemory = new AnswerMemory();

/** What one answer holds. */
export class HeldBytes {
  private readonly memory: AnswerMemory;
  private bytes = 0;
  private cleared = false;

  constructor(memory = answerMemory) {
    this.memory = memory;
  }

  /** So many bytes more are to be held. False: there is no room for them, and they are not counted. */
  add(bytes: number): boolean {
    const shared = sharedOf(this.bytes + bytes) - sharedOf(this.bytes);
    if (this.cleared || (shared > 0 && this.memory.bytes + shared > this.memory.maxBytes)) return false;
    this.memory.bytes += shared;
    this.bytes += bytes;
    return true;
  }

  /** So many of them are not held any more. */
  remove(bytes: number): void {
    if (!this.cleared) this.add(-bytes);
  }

  /** It holds nothing, from now on. */
  clear(): void {
    this.remove(this.bytes);
    this.cleared = true;
  }
}

function sharedOf(bytes: number): number {
  return Math.max(0, bytes - OWN_BYTES);
}

/** For what is held apart from all others. */
export function heldAlone(): HeldBytes {
  return new HeldBytes(new AnswerMemory(Number.POSITIVE_INFINITY));
}
