import { hashOf } from '../collections/churn-map.ts';
import { KeyIndex } from './key-index.ts';
import type { ReplayLog } from './replay-log.ts';
import type { TaskEnd } from './task-end.ts';

/** Answers that are longer are not kept here. */
export const KEPT_ANSWER_MAX_BYTES = 4_096;
/** Answers share blocks of this size, which go as a whole: they are let go in the order in which they came. */
const BLOCK_BYTES = 65_536;
const FIRST_CAPACITY = 64;
/** What an answer takes besides its bytes and its key, about: places in the columns. */
const SLOT_BYTES = 192;

/** An answer as it was when it was put here. */
export interface KeptAnswer {
  readonly head: readonly string[] | undefined;
  readonly end: TaskEnd;
  /** A view: copy what is to stay. */
  readonly bytes: Buffer;
  readonly expiresAtMs: number;
}

/**
 * Short answers that nobody has asked for again, which is nearly all of them: a ring of columns, oldest first. An
 * object for each, with what belongs to it, would live just long enough to be moved twice by the collector and
 * to be left to it in the old generation: at ten thousand calls a second that costs more than the calls' own policies.
 *
 *          dropped: only that it was given    kept
 *        ┌──────────────────────────────────┬───────────────────┐
 *        ▲ #first                           ▲ #firstKept        ▲ #next
 *
 * They are numbered in the order of their coming; a number stays good until its answer is forgotten.
 */
export class KeptAnswers {
  #capacity = FIRST_CAPACITY;
  #first = 0;
  #firstKept = 0;
  #next = 0;
  /** None where the answer has been taken out. */
  #keys = new KeyIndex(FIRST_CAPACITY);
  #heads: (readonly string[] | undefined)[] = new Array(FIRST_CAPACITY).fill(undefined);
  #trailers: (readonly string[] | undefined)[] = new Array(FIRST_CAPACITY).fill(undefined);
  #blocks: (Buffer | undefined)[] = new Array(FIRST_CAPACITY).fill(undefined);
  #starts = new Uint16Array(FIRST_CAPACITY);
  #lengths = new Uint16Array(FIRST_CAPACITY);
  #statuses = new Int8Array(FIRST_CAPACITY);
  #taskStatuses = new Float64Array(FIRST_CAPACITY);
  #expiry = new Float64Array(FIRST_CAPACITY);
  /** Of the answer with its key; what a dropped one still has. */
  #sizes = new Uint32Array(FIRST_CAPACITY);
  #block: Buffer | undefined = undefined;
  #blockUsed = 0;
  /** Of all answers that are here, and of what is left of dropped ones. */
  bytes = 0;
  /** How many are here, dropped ones included. */
  size = 0;

  /** Nothing is here, not even a dropped one. */
  get empty(): boolean {
    return this.#first === this.#next;
  }

  /** The number of the answer with this key, or -1. */
  find(key: string, hash = hashOf(key)): number {
    const slot = this.#keys.find(key, hash);
    if (slot < 0) return -1;
    const first = this.#first;
    return first + ((slot - first) & (this.#capacity - 1));
  }

  /**
   * @param key in Latin-1, and not here yet
   * @param fieldsBytes the head's and the trailers', as far as they count
   * @returns its number
   */
  add(
    key: string,
    head: readonly string[] | undefined,
    end: TaskEnd,
    log: ReplayLog,
    fieldsBytes: number,
    expiresAtMs: number,
    hash = hashOf(key),
  ): number {
    if (this.#next - this.#first === this.#capacity) this.#grow();
    const number = this.#next++;
    const slot = number & (this.#capacity - 1);
    const { length } = log;
    this.#keys.set(slot, key, hash);
    this.size++;
    this.#heads[slot] = head;
    this.#trailers[slot] = end.trailers;
    this.#statuses[slot] = end.status;
    this.#taskStatuses[slot] = end.taskStatus;
    this.#expiry[slot] = expiresAtMs;
    this.#lengths[slot] = length;
    if (length === 0) {
      this.#blocks[slot] = undefined;
    } else {
      if (this.#block === undefined || this.#blockUsed + length > BLOCK_BYTES) {
        this.#block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
        this.#blockUsed = 0;
      }
      log.copyTo(this.#block, this.#blockUsed);
      this.#blocks[slot] = this.#block;
      this.#starts[slot] = this.#blockUsed;
      this.#blockUsed += length;
    }
    const size = SLOT_BYTES + key.length + length + fieldsBytes;
    this.#sizes[slot] = size;
    this.bytes += size;
    return number;
  }

  expiresAtMs(number: number): number {
    return this.#expiry[number & (this.#capacity - 1)]!;
  }

  /** The answer's head; undefined where it had none, or is not kept. */
  headOf(number: number): readonly string[] | undefined {
    return this.#heads[number & (this.#capacity - 1)];
  }

  /** Of it only that it was given is known. */
  dropped(number: number): boolean {
    return number < this.#firstKept;
  }

  /** Takes an answer out, which must not be a dropped one: somebody asks for it. */
  take(number: number): KeptAnswer {
    const slot = number & (this.#capacity - 1);
    const start = this.#starts[slot]!;
    const answer = {
      head: this.#heads[slot],
      end: {
        status: this.#statuses[slot] as TaskEnd['status'],
        taskStatus: this.#taskStatuses[slot]!,
        trailers: this.#trailers[slot]!,
      },
      bytes: (this.#blocks[slot] ?? NO_BYTES).subarray(start, start + this.#lengths[slot]!),
      expiresAtMs: this.#expiry[slot]!,
    };
    this.forget(number);
    return answer;
  }

  /** Lets go of the oldest answer that is still here, all but that it was given. False: there is none. */
  dropOldest(): boolean {
    while (this.#firstKept < this.#next) {
      const slot = this.#firstKept++ & (this.#capacity - 1);
      const length = this.#keys.lengthAt(slot);
      if (length === 0) continue;
      this.#clear(slot);
      this.#sizes[slot] = SLOT_BYTES + length;
      this.bytes += SLOT_BYTES + length;
      return true;
    }
    return false;
  }

  /** The number of the oldest, if something is here. */
  get oldest(): number {
    return this.#first;
  }

  get oldestDropped(): boolean {
    return this.#first < this.#firstKept;
  }

  /** How many places lie between the oldest and the newest, holes included. */
  get span(): number {
    return this.#next - this.#first;
  }

  /** Answers can be forgotten anywhere; it is the oldest that make room. */
  forget(number: number): void {
    const slot = number & (this.#capacity - 1);
    this.#clear(slot);
    this.#keys.delete(slot);
    this.size--;
    this.#skipHoles();
  }

  #clear(slot: number): void {
    this.bytes -= this.#sizes[slot]!;
    this.#sizes[slot] = 0;
    this.#heads[slot] = undefined;
    this.#trailers[slot] = undefined;
    this.#blocks[slot] = undefined;
  }

  #skipHoles(): void {
    while (this.#first < this.#next && this.#keys.lengthAt(this.#first & (this.#capacity - 1)) === 0)
      this.#first++;
    if (this.#firstKept < this.#first) this.#firstKept = this.#first;
    if (this.empty) this.#block = undefined;
  }

  #grow(): void {
    const from = this.#capacity;
    const to = from * 2;
    const numbers: number[] = [];
    for (let number = this.#first; number < this.#next; number++) numbers.push(number);
    const moveTo = <Column extends { [index: number]: unknown }>(column: Column, larger: Column): Column => {
      for (const number of numbers) larger[number & (to - 1)] = column[number & (from - 1)];
      return larger;
    };
    const keys = new KeyIndex(to);
    for (const number of numbers) {
      const slot = number & (from - 1);
      if (this.#keys.lengthAt(slot) > 0) keys.take(this.#keys, slot, number & (to - 1));
    }
    this.#keys = keys;
    this.#heads = moveTo(this.#heads, new Array(to).fill(undefined));
    this.#trailers = moveTo(this.#trailers, new Array(to).fill(undefined));
    this.#blocks = moveTo(this.#blocks, new Array(to).fill(undefined));
    this.#starts = moveTo(this.#starts, new Uint16Array(to));
    this.#lengths = moveTo(this.#lengths, new Uint16Array(to));
    this.#statuses = moveTo(this.#statuses, new Int8Array(to));
    this.#taskStatuses = moveTo(this.#taskStatuses, new Float64Array(to));
    this.#expiry = moveTo(this.#expiry, new Float64Array(to));
    this.#sizes = moveTo(this.#sizes, new Uint32Array(to));
    this.#capacity = to;
  }
}

const NO_BYTES = Buffer.alloc(0);
