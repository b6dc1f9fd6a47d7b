/** What a run's journal is asked, and what it needs of its surroundings. */
import type { Print } from '../record/body-print.ts';
import type { JournalStore } from '../record/journal-store.ts';
import type { JournalRecord } from '../record/record.ts';

/** Names the value in the body that has these bytes. */
export type NameOfBytes = (fromByte: number, toByte: number) => string;

/** What is asked, with the print of its body. */
export interface Asked {
  readonly method: string;
  /** Without its query, which may hold a key. */
  readonly path: string;
  readonly print: Print;
  /** What else changes the question: it is hashed, and never stored. */
  readonly variant: string;
  /** `Idempotency-Key`; '' without one. */
  readonly idempotencyKey: string;
  /** Begins to name values in the body by their bytes. What it returns keeps the body in memory, so keep it shortly. */
  names(): NameOfBytes;
}

/** Receives what happens, for metrics and pages. */
interface RunEvents {
  onReplayed(): void;
  /** A later run asked what no earlier one had asked, or what has no record. */
  onMissed(): void;
  onStored(): void;
  /** An answer has no record: the store is away, has no room, or a later run has begun. */
  onNotStored(): void;
  /** An answer was passed on before the store had it. */
  onLate(): void;
  /** Earlier answers are left over, and this request is not the one that they were given to. */
  onDiffers(asked: Asked, nameOf: NameOfBytes, before: JournalRecord): void;
}

export interface RunContext {
  readonly store: JournalStore;
  readonly events: RunEvents;
  readonly maxTaskBytes: number;
  /** The name of a request in the store: who reads the store can't tell what was asked. */
  digestOf(task: string, asked: Asked): string;
  seal(payload: Buffer): Buffer;
  /** Undefined when no key opens it. */
  open(payload: Buffer): Buffer | undefined;
}
