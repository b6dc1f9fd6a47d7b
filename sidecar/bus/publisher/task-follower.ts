/** Follows a task to its end for one caller, and gives it the messages of the run that counts. */
import { setTimeout as sleep } from 'node:timers/promises';
import { LogUnavailableError } from '../log/log-errors.ts';
import type { ChunkBatch, TaskEvent } from '../log/task-log.ts';
import { hasEnded, type TaskRecord } from '../log/task-record.ts';
import type { Room } from '../memory/room.ts';
import { decodeChunks } from '../message/chunk-payload.ts';
import type { AnswerWriter } from './answer-writer.ts';
import type { Caller } from './caller.ts';
import { FollowedTask } from './followed-task.ts';
import type { Publishing } from './publishing.ts';
import { busUnavailable, NOT_KEPT, type Refusal, STORE_REPLACED, STREAM_CUT } from './refusals.ts';

/** While the log is away, it is asked so often, and its callers wait so long for it. */
const AGAIN_MS = 200;
const AWAY_MS = 120_000;
const NOBODY = { record: undefined };

/** How following a task ended. Without a record nobody waits for the answer any more. */
export type Ended = { readonly record: TaskRecord | undefined } | { readonly refusal: Refusal };

export class TaskFollower {
  /** The store that has the task. */
  private readonly storeId: string | undefined;
  private readonly publishing: Publishing;
  private readonly caller: Caller;
  private readonly answer: AnswerWriter;
  private readonly isUnary: boolean;
  private readonly followed: FollowedTask;

  constructor(
    publishing: Publishing,
    caller: Caller,
    answer: AnswerWriter,
    { record, isUnary }: { readonly record: TaskRecord; readonly isUnary: boolean },
  ) {
    this.storeId = publishing.log.storeId;
    this.publishing = publishing;
    this.caller = caller;
    this.answer = answer;
    this.isUnary = isUnary;
    this.followed = new FollowedTask(record);
  }

  async follow(room: Room): Promise<Ended> {
    const { log } = this.publishing;
    const { followed, caller } = this;
    const { key } = followed.record;
    let awaySinceMs = 0;
    while (!caller.isGone) {
      try {
        for await (const event of log.watch(key, followed.afterSequence, caller.gone, room)) {
          if (caller.isGone) return NOBODY;
          awaySinceMs = 0;
          const ended = await this.see(event);
          if (ended !== undefined) return ended;
        }
        if (caller.isGone) return NOBODY;
        if ((await log.get(key)) === undefined) return { refusal: this.notThere };
      } catch (error) {
        if (!(error instanceof LogUnavailableError)) throw error;
        if (awaySinceMs === 0) awaySinceMs = performance.now();
        if (error.isFinal || performance.now() - awaySinceMs > AWAY_MS)
          return {
            refusal: busUnavailable(`${error.message}; the task is stored: send it again to join it`),
          };
      }
      await sleep(AGAIN_MS);
    }
    return NOBODY;
  }

  /** Why the store has no such task, or no answer of it, although it was stored. */
  get notThere(): Refusal {
    return this.publishing.log.storeId === this.storeId ? NOT_KEPT : STORE_REPLACED;
  }

  /** Undefined while it goes on. */
  private async see(event: TaskEvent): Promise<Ended | undefined> {
    if (event.kind === 'chunks') return await this.give(event.batch);
    if (this.followed.see(event.record)) return { refusal: STREAM_CUT };
    return hasEnded(event.record) ? { record: event.record } : undefined;
  }

  private async give(batch: ChunkBatch): Promise<Ended | undefined> {
    const { followed, answer } = this;
    const { log, sealer } = this.publishing;
    let judged = followed.judge(batch);
    if (judged === 'unknown') {
      const now = await log.get(followed.record.key);
      if (now !== undefined && followed.see(now)) return { refusal: STREAM_CUT };
      judged = followed.judge(batch);
    }
    if (judged !== 'give' || this.isUnary) {
      followed.drop(batch);
      return undefined;
    }
    followed.give(batch);
    const { head, messages } = decodeChunks(sealer.open(batch.payload));
    if (head !== undefined) answer.begin(head);
    await answer.send(messages);
    return undefined;
  }
}
