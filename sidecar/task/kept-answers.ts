/** A compact store for short answers of finished tasks. */
import { hashOf } from '../collections/churn-map.ts';
import { type SharedBlock, SharedBlocks } from '../collections/shared-blocks.ts';
import { KeyIndex } from './key-index.ts';
import type { ReplayLog } from './replay-log.ts';
import type { TaskEnd } from './task-end.ts';

/** Longer answers are not kept here. */
export const KEPT_ANSWER_MAX_BYTES = 4_096;
/** Answers share blocks of this size. A block gets free as a whole, because answers are dropped in the order of arrival. */
const BLOCK_BYTES = 65_536;
/** One block gets free about when another is full. */
const SPARE_BLOCKS_MAX = 4;
const FIRST_CAPACITY = 64;
/** About what an answer takes besides its bytes and its key: its slots in the columns. */
const SLOT_BYTES = 192;

/** An answer as it was added. */
export interface KeptAnswer {
  readonly head: readonly string[] | undefined;
  readonly end: TaskEnd;
  /** A view, which the next answer may overwrite: copy it to keep it. */
  readonly bytes: Buffer;
  readonly expiresAtMs: number;
}

/**
 * Short answers that no duplicate has requested, which is nearly all of them: a ring of columns, oldest first. An object
 * for each answer would live just long enough for the collector to move it twice and promote it to the old generation: at
 * ten thousand calls a second that costs more than the calls' own policies.
 *
 *          dropped: the bare fact remains     kept
 *        ┌──────────────────────────────────┬───────────────────┐
 *        ▲ first                            ▲ firstKept         ▲ next
 *
 * Answers are numbered in the order of arrival; a number is valid until its answer is forgotten.
 */
export class KeptAnswers {
  private capacity = FIRST_CAPACITY;
  private first = 0;
  private firstKept = 0;
  private next = 0;
  /** A slot has no key when its answer was taken out. */
  private keys = new KeyIndex(FIRST_CAPACITY);
  private heads: (readonly string[] | undefined)[] = new Array(FIRST_CAPACITY).fill(undefined);
  private trailers: (readonly string[] | undefined)[] = new Array(FIRST_CAPACITY).fill(undefined);
  private blocks: (SharedBlock | undefined)[] = new Array(FIRST_CAPACITY).fill(undefined);
  private starts = new Uint16Array(FIRST_CAPACITY);
  private lengths = new Uint16Array(FIRST_CAPACITY);
  private statuses = new Int8Array(FIRST_CAPACITY);
  private taskStatuses = new Float64Array(FIRST_CAPACITY);
  private expiry = new Float64Array(FIRST_CAPACITY);
  /** The bytes of an answer with its key; of a dropped one, what remains. */
  private sizes = new Uint32Array(FIRST_CAPACITY);
  private readonly memory = new SharedBlocks(BLOCK_BYTES, SPARE_BLOCKS_MAX);
  /** The bytes of all answers, and of what remains of dropped ones. */
  bytes = 0;
  /** The number of answers, dropped ones included. */
  size = 0;

  /** There is no answer, not even a dropped one. */
  get empty(): boolean {
    return this.first === this.next;
  }

  /** Returns the number of the answer with this key, or -1. */
  find(key: string, hash = hashOf(key)): number {
    const slot = this.keys.find(key, hash);
    if (slot < 0) return -1;
    const first = this.first;
    return first + ((slot - first) & (this.capacity - 1));
  }

  /**
   * @param key in Latin-1, and not present yet
   * @param fieldsBytes the bytes that count for head and trailers
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
    if (this.next - this.first === this.capacity) this.grow();
    const number = this.next++;
    const slot = number & (this.capacity - 1);
    const { length } = log;
    this.keys.set(slot, key, hash);
    this.size++;
    this.heads[slot] = head;
    this.trailers[slot] = end.trailers;
    this.statuses[slot] = end.status;
    this.taskStatuses[slot] = end.taskStatus;
    this.expiry[slot] = expiresAtMs;
    this.lengths[slot] = length;
    if (length === 0) {
      this.blocks[slot] = undefined;
    } else {
      const block = this.memory.take(length);
      const start = block.used - length;
      log.copyTo(block.buffer, start);
      this.blocks[slot] = block;
      this.starts[slot] = start;
    }
    const size = SLOT_BYTES + key.length + length + fieldsBytes;
    this.sizes[slot] = size;
    this.bytes += size;
    return number;
  }

  expiresAtMs(number: number): number {
    return this.expiry[number & (this.capacity - 1)]!;
  }

  /** Returns the answer's head; undefined when it had none, or was dropped. */
  headOf(number: number): readonly string[] | undefined {
    return this.heads[number & (this.capacity - 1)];
  }

  /** Whether the answer was dropped: only the fact that it was given remains. */
  dropped(number: number): boolean {
    return number < this.firstKept;
  }

  /** Removes and returns an answer for a duplicate; it must not be a dropped one. */
  take(number: number): KeptAnswer {
    const slot = number & (this.capacity - 1);
    const start = this.starts[slot]!;
    const answer = {
      head: this.heads[slot],
      end: {
        status: this.statuses[slot] as TaskEnd['status'],
        taskStatus: this.taskStatuses[slot]!,
        trailers: this.trailers[slot]!,
      },
      bytes: (this.blocks[slot]?.buffer ?? NO_BYTES).subarray(start, start + this.lengths[slot]!),
      expiresAtMs: this.expiry[slot]!,
    };
    this.forget(number);
    return answer;
  }

  /** Drops the oldest answer that is not dropped yet. @returns false when there is none */
  dropOldest(): boolean {
    while (this.firstKept < this.next) {
      const slot = this.firstKept++ & (this.capacity - 1);
      const length = this.keys.lengthAt(slot);
      if (length === 0) continue;
      this.clear(slot);
      this.sizes[slot] = SLOT_BYTES + length;
      this.bytes += SLOT_BYTES + length;
      return true;
    }
    return false;
  }

  /** The number of the oldest answer, if there is any. */
  get oldest(): number {
    return this.first;
  }

  get oldestDropped(): boolean {
    return this.first < this.firstKept;
  }

  /** The number of slots from the oldest to the newest answer, holes included. */
  get span(): number {
    return this.next - this.first;
  }

  /** Forgets any answer. Slots are reused only after the oldest answers are forgotten. */
  forget(number: number): void {
    const slot = number & (this.capacity - 1);
    this.clear(slot);
    this.keys.delete(slot);
    this.size--;
    this.skipHoles();
  }

  private clear(slot: number): void {
    this.bytes -= this.sizes[slot]!;
    this.sizes[slot] = 0;
    this.heads[slot] = undefined;
    this.trailers[slot] = undefined;
    const block = this.blocks[slot];
    if (block === undefined) return;
    this.blocks[slot] = undefined;
    this.memory.give(block);
  }

  private skipHoles(): void {
    while (this.first < this.next && this.keys.lengthAt(this.first & (this.capacity - 1)) === 0) this.first++;
    if (this.firstKept < this.first) this.firstKept = this.first;
    if (!this.empty) return;
    this.memory.trim();
    this.keys.trim();
  }

  private grow(): void {
    const from = this.capacity;
    const to = from * 2;
    const numbers: number[] = [];
    for (let number = this.first; number < this.next; number++) numbers.push(number);
    const moveTo = <Column extends { [index: number]: unknown }>(column: Column, larger: Column): Column => {
      for (const number of numbers) larger[number & (to - 1)] = column[number & (from - 1)];
      return larger;
    };
    const keys = this.keys.larger(to);
    for (const number of numbers) {
      const slot = number & (from - 1);
      if (this.keys.lengthAt(slot) > 0) keys.take(this.keys, slot, number & (to - 1));
    }
    this.keys = keys;
    this.heads = moveTo(this.heads, new Array(to).fill(undefined));
    this.trailers = moveTo(this.trailers, new Array(to).fill(undefined));
    this.blocks = moveTo(this.blocks, new Array(to).fill(undefined));
    this.starts = moveTo(this.starts, new Uint16Array(to));
    this.lengths = moveTo(this.lengths, new Uint16Array(to));
    this.statuses = moveTo(this.statuses, new Int8Array(to));
    this.taskStatuses = moveTo(this.taskStatuses, new Float64Array(to));
    this.expiry = moveTo(this.expiry, new Float64Array(to));
    this.sizes = moveTo(this.sizes, new Uint32Array(to));
    this.capacity = to;
  }
}

const NO_BYTES = Buffer.alloc(0);
