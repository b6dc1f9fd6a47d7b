/**
 * The journal of one run of a task: gives it the answers that earlier runs have paid for, and keeps those that it pays for.
 *
 *     enter ──▶ find ──┬── the answer of an earlier run ──▶ replayed
 *                      └── none ──▶ the provider is asked ──▶ keep
 *
 * The store is asked once what there is: with the first request. From then on a request without a record waits for nothing.
 */
import type { Kept } from '../record/journal-store.ts';
import { type Answer, decodeRecord, encodeRecord, type JournalRecord } from '../record/record.ts';
import { type Begun, begunOf } from './begun-run.ts';
import { JournalEntry } from './journal-entry.ts';
import { Places } from './places.ts';
import type { Asked, RunContext } from './run-context.ts';

/**
 * A record with a lower status is no answer, but a note of a kind of requests: that it was sent, say. It is found like an
 * answer, and not counted as one.
 */
const FIRST_ANSWER_STATUS = 200;

/** How long a request waits for what the store knows. */
const FIND_MS = 1_000;
/** Of left-over answers, so many are compared with a request that has none. */
const COMPARED = 4;

export class RunJournal {
  private readonly context: RunContext;
  private readonly task: string;
  private readonly places = new Places();
  private begun: Promise<Begun | undefined> | undefined = undefined;
  private bytes = 0;
  /** The highest reference that this run has written. */
  private last = 0;
  private isOver = false;

  constructor(context: RunContext, task: string) {
    this.context = context;
    this.task = task;
  }

  /** Undefined for a request that has no place in the journal. */
  enter(asked: Asked): JournalEntry | undefined {
    if (this.isOver) return undefined;
    const digest = this.context.digestOf(this.task, asked);
    const place = this.places.take(digest, asked.idempotencyKey);
    return place === undefined ? undefined : new JournalEntry(this, asked, digest, place);
  }

  giveBack(digest: string, place: number): void {
    this.places.giveBack(digest, place);
  }

  async find(asked: Asked, place: string): Promise<Answer | undefined> {
    const { store, events } = this.context;
    const begun = await this.begin();
    if (begun === undefined) return undefined;
    const kept = begun.left.get(place) ?? begun.own.get(place);
    if (kept === undefined) {
      if (begun.isLater) {
        events.onMissed();
        void this.compare(asked, begun);
      }
      return undefined;
    }
    begun.left.delete(place);
    begun.own.set(place, kept);
    const record = await this.read(kept);
    if (record !== undefined) {
      if (record.answer.status >= FIRST_ANSWER_STATUS) events.onReplayed();
      return record.answer;
    }
    if (store.connected) begun.own.delete(place);
    events.onMissed();
    return undefined;
  }

  /** Resolves with whether the answer has a record now. */
  async keep(asked: Asked, place: string, answer: Answer): Promise<boolean> {
    const { context, task } = this;
    const { store, events, maxTaskBytes } = context;
    try {
      const begun = await this.begin();
      if (begun === undefined || this.isOver) return this.notStored();
      const payload = context.seal(encodeRecord({ answer, asked }, { task, place }));
      if (this.bytes + payload.length > maxTaskBytes) return this.notStored();
      this.bytes += payload.length;
      const written = await store.write(task, begun.run, place, payload);
      if (written.outcome !== 'stored') return this.notStored();
      this.last = Math.max(this.last, written.reference);
      begun.own.set(place, { place, reference: written.reference, bytes: payload.length });
      if (answer.status >= FIRST_ANSWER_STATUS) events.onStored();
      return true;
    } catch {
      return this.notStored();
    }
  }

  noteLate(): void {
    this.context.events.onLate();
  }

  private notStored(): false {
    this.context.events.onNotStored();
    return false;
  }

  /**
   * The run is over.
   *
   * @param isFinal no other run of the task needs the answers
   */
  end(isFinal: boolean): void {
    if (this.isOver) return;
    this.isOver = true;
    if (isFinal) void this.drop();
  }

  private async drop(): Promise<void> {
    try {
      const begun = await this.begun;
      if (begun !== undefined) await this.context.store.drop(this.task, begun.run, this.last);
    } catch {
      // Their age ends them.
    }
  }

  /** Begins the run in the store, again after a failure; undefined when the store gives no answer in time. */
  private async begin(): Promise<Begun | undefined> {
    const { store } = this.context;
    this.begun ??= store.begin(this.task).then(
      (run) => {
        const begun = begunOf(run);
        for (const { bytes } of run.kept) this.bytes += bytes;
        return begun;
      },
      () => {
        this.begun = undefined;
        return undefined;
      },
    );
    return await within(FIND_MS, this.begun);
  }

  private async read({ place, reference }: Kept): Promise<JournalRecord | undefined> {
    const { context, task } = this;
    const { store, open } = context;
    try {
      const payload = await within(FIND_MS, store.read(task, reference));
      const opened = payload === undefined ? undefined : open(payload);
      return opened === undefined ? undefined : decodeRecord(opened, { task, place });
    } catch {
      return undefined;
    }
  }

  /** Finds the left-over answer whose request this one differs from. */
  private async compare(asked: Asked, { left }: Begun): Promise<void> {
    // The body is dropped as soon as the provider answers, which may be before the store does.
    const nameOf = asked.names();
    let nearest: JournalRecord | undefined;
    let same = -1;
    for (const kept of [...left.values()].slice(0, COMPARED)) {
      const record = await this.read(kept);
      if (record === undefined || record.asked.path !== asked.path) continue;
      const length = sameBytes(record.asked.print.marks, asked.print.marks);
      if (length <= same) continue;
      nearest = record;
      same = length;
    }
    if (nearest !== undefined) this.context.events.onDiffers(asked, nameOf, nearest);
  }
}

function sameBytes(one: Buffer, other: Buffer): number {
  const end = Math.min(one.length, other.length);
  for (let at = 0; at < end; at++) if (one[at] !== other[at]) return at;
  return end;
}

/** Undefined when the time is over; the promise goes on. */
async function within<Value>(ms: number, promise: Promise<Value>): Promise<Value | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, ms, undefined);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
