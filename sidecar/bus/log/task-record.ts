/** A task in the log: its states, its runs and its result. */
import type { Arrows } from '../../errors/illegal-step.ts';

/**
 *                ┌────────── lost, or given back ───────────┐
 *                ▼                                          │
 *     ────▶ queued ──a sidecar takes it──▶ running ──settled──▶ done
 *             │  │                           │  │
 *             │  └── too old ──▶ dead ◀── lost too often, unreadable
 *             └───────── cancel ──▶ cancelled ◀── cancel
 *
 *     done, dead, cancelled ──submitted again──▶ queued, as the next generation
 */
export type TaskState = 'queued' | 'running' | 'done' | 'dead' | 'cancelled';

export const TASK_ARROWS: Arrows<TaskState> = {
  queued: ['running', 'dead', 'cancelled'],
  running: ['queued', 'done', 'dead', 'cancelled'],
  done: ['queued'],
  dead: ['queued'],
  cancelled: ['queued'],
};

/** Names a task in the log: the SHA-256 of its fingerprint, or of its caller's own name for it, in base64url (43 characters). */
export type TaskKey = string;

/** A task as it is submitted. The log reads none of `payload`, which may be sealed. */
export interface NewTask {
  readonly key: TaskKey;
  /** The SHA-256 of the fingerprint, in base64url: equal for equal requests, where the key is a name that the caller chose. */
  readonly digest: string;
  readonly agentType: string;
  /** The verified name of the sidecar that publishes it. The log may enforce it. */
  readonly publisher: string;
  /** The caller whose queue it joins (`callerOf`): base64url, or '' for callers that nothing tells apart. Callers take turns. */
  readonly caller: string;
  /** Milliseconds until the deadline, from now; Infinity without one. */
  readonly timeLeftMs: number;
  /** The request and what travels with it (`message/new-task.ts`). */
  readonly payload: Buffer;
}

/** The answer of an agent, a success or an error, as its run gives it to the log. */
export interface Answer {
  /** The gRPC status of the answer. */
  readonly status: number;
  /** Message, trailers and, for a unary call, the answer; the log reads none of it. */
  readonly payload: Buffer;
}

/** The result of a task that an agent has answered. The answer may be large, and `TaskLog.answer` reads it. */
export interface TaskResult extends Pick<Answer, 'status'> {
  /** The sequence of the last chunk of the run; 0 when it wrote none. */
  readonly lastSequence: number;
  /** The bytes that the answer takes in the log. */
  readonly bytes: number;
  /** The answer itself, where it has at most {@link SHORT_ANSWER_BYTES}: most have, and need no second question to the log. */
  readonly short: Buffer | undefined;
}

export const SHORT_ANSWER_BYTES = 4_096;

/** Times are milliseconds since 1970 by the clock of the log ({@link TaskLog.nowMs}), which all sidecars share. */
export interface TaskRecord {
  readonly key: TaskKey;
  readonly digest: string;
  readonly agentType: string;
  readonly publisher: string;
  readonly caller: string;
  /** Counts how often the task was submitted anew after its end, from 1. */
  readonly generation: number;
  readonly state: TaskState;
  /** Counts the runs of this generation; 0 before the first. A run given back before it began doesn't count. */
  readonly run: number;
  /** The runs of this generation that ended with their sidecar or their lease, and not with a result. */
  readonly lostRuns: number;
  /** The sidecar that runs it; '' unless running. */
  readonly holder: string;
  readonly submittedAtMs: number;
  /** Of the latest run that counts; 0 before it. */
  readonly startedAtMs: number;
  /** 0 before the end. */
  readonly endedAtMs: number;
  /** Infinity without one. */
  readonly deadlineAtMs: number;
  /** The sequence of the last chunk that any run wrote; 0 before it. */
  readonly lastSequence: number;
  /** When done. */
  readonly result: TaskResult | undefined;
  /** Why it is dead or cancelled, for a person; '' otherwise. */
  readonly cause: string;
}

/** Whether nothing more happens to the task by itself. */
export function hasEnded({ state }: TaskRecord): boolean {
  return state === 'done' || state === 'dead' || state === 'cancelled';
}
