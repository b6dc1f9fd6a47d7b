/** A call that became a task: submits it, follows it to its end, and gives its caller what the agent answered. */

import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseTimeout } from '../../grpc/timeout.ts';
import type { SharedMemory } from '../../policy/shared-memory.ts';
import { isUnaryPath } from '../../task/task-message.ts';
import { LogUnavailableError } from '../log/log-errors.ts';
import { hasEnded, type NewTask, type TaskRecord } from '../log/task-record.ts';
import { CALLER_LEFT, type Leaving } from '../log/wanted.ts';
import { NoRoomError, Room } from '../memory/room.ts';
import { withAnswer } from '../message/answer-reader.ts';
import { decodeChunks } from '../message/chunk-payload.ts';
import { callerOf, newTask } from '../message/new-task.ts';
import type { Fields } from '../message/payload.ts';
import { AnswerWriter } from './answer-writer.ts';
import { FollowedTask } from './followed-task.ts';
import type { Publishing } from './publishing.ts';
import {
  busUnavailable,
  endedWithout,
  NOT_KEPT,
  noRoom,
  OUTCOME_UNKNOWN,
  ourFault,
  type Refusal,
  STORE_REPLACED,
  STREAM_CUT,
} from './refusals.ts';
import { readRequest } from './request-reader.ts';
import { type Submission, submitInTime } from './submission.ts';

/** Each time, somebody else's deadline or cancel may have ended the task under this caller. */
const MAX_SUBMITS = 3;
/** While the log is away, it is asked so often, and its callers wait so long for it. */
const AGAIN_MS = 200;
const AWAY_MS = 120_000;
const LEAVE_TRIES = 50;
/** As much as the pipeline keeps of a request for another attempt. */
const MOST_KEPT_BYTES = 65_536;
const NOBODY = { record: undefined };

/** The task is there, and this caller waits for it under a name of its own. */
interface Joined {
  readonly record: TaskRecord;
  readonly waiter: string;
}

interface Refused {
  readonly refusal: Refusal;
}

/** How following a task ended. Without a record nobody waits for the answer any more. */
type Ended = { readonly record: TaskRecord | undefined } | { readonly refusal: Refusal };

export class PublishedCall {
  private readonly publishing: Publishing;
  private readonly agentType: string;
  private readonly stream: ServerHttp2Stream;
  private readonly headers: IncomingHttpHeaders;
  private readonly fields: Fields;
  private readonly answer: AnswerWriter;
  private readonly gone = new AbortController();
  /** How the caller's side of the stream ended. */
  private callersEnd: Leaving | undefined = undefined;
  private readonly deadlineMs: number;
  private readonly scope: string;
  /** A request that is small enough to be submitted anew. */
  private kept: NewTask | undefined = undefined;
  /** Where the task was stored. */
  private storeId: string | undefined = undefined;
  /** `outrigger-deduplicated`, where another call's run answers. */
  private deduplicated: 'joined' | 'replayed' | undefined = undefined;

  /** @param isCut whether the connection to the pipeline is lost, so that the end of the stream says nothing of the caller */
  constructor(
    publishing: Publishing,
    agentType: string,
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    fields: Fields,
    isCut: () => boolean,
  ) {
    this.publishing = publishing;
    this.agentType = agentType;
    this.stream = stream;
    this.headers = headers;
    this.fields = fields;
    this.answer = new AnswerWriter(stream);
    this.scope = publishing.scopeOf(fields);
    const timeoutMs = parseTimeout(String(headers['grpc-timeout'] ?? ''));
    this.deadlineMs = Number.isNaN(timeoutMs) ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
    stream.once('close', () => {
      const isCancelled = stream.rstCode === constants.NGHTTP2_CANCEL && !isCut();
      this.callersEnd = isCancelled ? 'cancelled' : 'vanished';
      this.gone.abort();
    });
  }

  async run(): Promise<void> {
    try {
      const refusal = await this.serve();
      if (refusal !== undefined) this.answer.refuse(refusal);
    } catch (error) {
      if (error instanceof LogUnavailableError) this.answer.refuse(busUnavailable(error.message));
      else if (error instanceof NoRoomError) this.answer.refuse(noRoom(error));
      else {
        this.publishing.onDefect(error);
        this.answer.refuse(ourFault(error));
      }
    }
  }

  private get isGone(): boolean {
    return this.callersEnd !== undefined;
  }

  private timeLeftMs(): number {
    return this.deadlineMs - performance.now();
  }

  private async serve(): Promise<Refusal | undefined> {
    const room = this.roomIn(
      this.publishing.memory.requests,
      callerOf(this.publishing.publisher, this.scope),
    );
    let joined = await this.readAndSubmit(room).finally(() => room.give());
    for (let submits = 1; ; submits++) {
      if (joined === undefined || 'refusal' in joined) return joined?.refusal;
      const ended = await this.await(joined);
      if ('refusal' in ended) return ended.refusal;
      const { record } = ended;
      if (record === undefined) return undefined;
      if (record.state === 'done') {
        return this.giveResult(record);
      }
      const { kept } = this;
      if (submits === MAX_SUBMITS || kept === undefined || !this.mayRunAgain(record))
        return this.answer.hasBegun && record.state !== 'dead'
          ? STREAM_CUT
          : endedWithout(record, this.timeLeftMs() > 0);
      joined = await this.submit(kept);
    }
  }

  /** Undefined when the caller has left. */
  private async readAndSubmit(room: Room): Promise<Joined | Refused | undefined> {
    const task = await this.readTask(room);
    if (task === undefined) return undefined;
    if ('reason' in task) return { refusal: task };
    // It waits for as long as the task does: of a large request it keeps nothing, and can't submit it anew then.
    if (task.payload.length <= MOST_KEPT_BYTES) this.kept = task;
    return this.submit(task);
  }

  /** The task of the request; or why there is none; or undefined when the caller has left. */
  private async readTask(room: Room): Promise<NewTask | Refusal | undefined> {
    const { publishing, agentType, fields, scope } = this;
    const encoding = String(this.headers['grpc-encoding'] ?? '');
    const message = await readRequest(this.stream, encoding, publishing.settings.maxMessageBytes, room);
    if (message === undefined || this.isGone) return undefined;
    if (!Buffer.isBuffer(message)) return message;
    const order = {
      path: String(this.headers[':path']),
      agentType,
      publisher: publishing.publisher,
      scope,
      fields: publishing.fieldsOf({ fields }),
      message,
      timeLeftMs: this.timeLeftMs(),
    };
    return newTask(order, publishing.sealer);
  }

  /** Somebody else's deadline, or a caller of the same task that has left, ended it under this caller. */
  private mayRunAgain({ state, cause, deadlineAtMs, endedAtMs }: TaskRecord): boolean {
    if (state !== 'cancelled' || this.answer.hasBegun || this.timeLeftMs() <= 0) return false;
    return cause === CALLER_LEFT || deadlineAtMs <= endedAtMs;
  }

  private async submit(task: NewTask): Promise<Joined | Refused> {
    const { log, waiting, counts, settings } = this.publishing;
    const waiter = waiting.begin();
    let submission: Submission | undefined;
    try {
      const options = { joinEndedForMs: settings.joinEndedForMs, isWatched: true, waiter };
      submission = await submitInTime(log, task, options, () => this.timeLeftMs());
      if ('refusal' in submission) {
        const { refusal } = submission;
        if (refusal === OUTCOME_UNKNOWN) void this.leave(task.key, waiter, this.callersEnd ?? 'vanished');
        return submission;
      }
      this.storeId = log.storeId;
      const { outcome, record } = submission;
      if (outcome === 'stored') counts.count(this.agentType, 'published');
      else this.deduplicated = hasEnded(record) ? 'replayed' : 'joined';
      return { record, waiter };
    } finally {
      if (submission === undefined || 'refusal' in submission) waiting.end();
    }
  }

  /** Follows the task as one of its waiting callers. Returns its last record, or a refusal; or neither, when nobody waits any more. */
  private async await({ record, waiter }: Joined): Promise<Ended> {
    let ended: Ended | undefined;
    try {
      ended = await this.follow(new FollowedTask(record));
      return ended;
    } finally {
      const hasEnd = ended !== undefined && 'record' in ended && ended.record !== undefined;
      if (!hasEnd) void this.leave(record.key, waiter, this.callersEnd ?? 'vanished');
      this.publishing.waiting.end();
    }
  }

  private async follow(followed: FollowedTask): Promise<Ended> {
    const room = this.roomFor(followed.record);
    try {
      return await this.followIn(followed, room);
    } finally {
      room.give();
    }
  }

  private async followIn(followed: FollowedTask, room: Room): Promise<Ended> {
    const { log } = this.publishing;
    const { key } = followed.record;
    let awaySinceMs = 0;
    while (!this.isGone) {
      try {
        for await (const event of log.watch(key, followed.afterSequence, this.gone.signal, room)) {
          if (this.isGone) return NOBODY;
          awaySinceMs = 0;
          if (event.kind === 'chunks') {
            const { batch } = event;
            let judged = followed.judge(batch);
            if (judged === 'unknown') {
              const now = await log.get(key);
              if (now !== undefined && followed.see(now)) return { refusal: STREAM_CUT };
              judged = followed.judge(batch);
            }
            if (judged !== 'give' || this.isUnary) followed.drop(batch);
            else {
              followed.give(batch);
              const { head, messages } = decodeChunks(this.publishing.sealer.open(batch.payload));
              if (head !== undefined) this.answer.begin(head);
              await this.answer.send(messages);
            }
          } else {
            if (followed.see(event.record)) return { refusal: STREAM_CUT };
            if (hasEnded(event.record)) return { record: event.record };
          }
        }
        if (this.isGone) return NOBODY;
        const now = await log.get(key);
        if (now === undefined) return { refusal: this.notThere };
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
  private get notThere(): Refusal {
    return this.publishing.log.storeId === this.storeId ? NOT_KEPT : STORE_REPLACED;
  }

  private get isUnary(): boolean {
    return isUnaryPath(String(this.headers[':path']));
  }

  private giveResult(record: TaskRecord): Promise<Refusal | undefined> {
    return withAnswer(this.publishing, record, this.roomFor(record), async (answer) => {
      if (answer === undefined) return this.notThere;
      const { status, statusMessage, head, trailers, bytes } = answer;
      if (!this.answer.hasBegun && (head.length > 0 || bytes !== undefined)) this.answer.begin(head);
      if (bytes !== undefined) await this.answer.sendMessage(bytes, answer.pieces);
      const own = this.deduplicated === undefined ? [] : ['outrigger-deduplicated', this.deduplicated];
      this.answer.end(status, statusMessage, [...trailers, ...own]);
      return undefined;
    });
  }

  private roomFor({ caller }: TaskRecord): Room {
    return this.roomIn(this.publishing.memory.answers, caller);
  }

  private roomIn(memory: SharedMemory, caller: string): Room {
    return new Room(memory, { caller, signal: this.gone.signal, timeLeftMs: () => this.timeLeftMs() });
  }

  private async leave(key: string, waiter: string, leaving: Leaving): Promise<void> {
    for (let tries = 0; tries < LEAVE_TRIES; tries++) {
      try {
        await this.publishing.log.leave(key, waiter, leaving);
        return;
      } catch (error) {
        if (!(error instanceof LogUnavailableError)) {
          this.publishing.onDefect(error);
          return;
        }
      }
      await sleep(AGAIN_MS);
    }
  }
}
