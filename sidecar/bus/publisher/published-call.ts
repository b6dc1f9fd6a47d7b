/** A call that became a task: submits it, follows it to its end, and gives its caller what the agent answered. */

import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { isUnaryPath } from '../../task/task-message.ts';
import { LogUnavailableError } from '../log/log-errors.ts';
import { hasEnded, type NewTask, type TaskRecord } from '../log/task-record.ts';
import { CALLER_LEFT } from '../log/wanted.ts';
import { NoRoomError, type Room } from '../memory/room.ts';
import { withAnswer } from '../message/answer-reader.ts';
import { callerOf, newTask } from '../message/new-task.ts';
import type { Fields } from '../message/payload.ts';
import { AnswerWriter } from './answer-writer.ts';
import { Caller } from './caller.ts';
import { leaveTask } from './leave-task.ts';
import type { Publishing } from './publishing.ts';
import {
  busUnavailable,
  endedWithout,
  noRoom,
  OUTCOME_UNKNOWN,
  ourFault,
  type Refusal,
  STREAM_CUT,
} from './refusals.ts';
import { readRequest } from './request-reader.ts';
import { type Submission, submitInTime } from './submission.ts';
import { type Ended, TaskFollower } from './task-follower.ts';

/** Each time, somebody else's deadline or cancel may have ended the task under this caller. */
const MAX_SUBMITS = 3;
/** As much as the pipeline keeps of a request for another attempt. */
const MOST_KEPT_BYTES = 65_536;

/** The task is there, and this caller waits for it under a name of its own. */
interface Joined {
  readonly follower: TaskFollower;
  readonly record: TaskRecord;
  readonly waiter: string;
}

interface Refused {
  readonly refusal: Refusal;
}

export class PublishedCall {
  private readonly publishing: Publishing;
  private readonly agentType: string;
  private readonly stream: ServerHttp2Stream;
  private readonly headers: IncomingHttpHeaders;
  private readonly fields: Fields;
  private readonly answer: AnswerWriter;
  private readonly caller: Caller;
  private readonly scope: string;
  /** A request that is small enough to be submitted anew. */
  private kept: NewTask | undefined = undefined;
  /** `outrigger-deduplicated`, where another call's run answers. */
  private deduplicated: 'joined' | 'replayed' | undefined = undefined;

  /** @param isCut as {@link Caller} has it */
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
    this.caller = new Caller(stream, headers, isCut);
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

  private async serve(): Promise<Refusal | undefined> {
    const { publishing, caller } = this;
    const room = caller.roomIn(publishing.memory.requests, callerOf(publishing.publisher, this.scope));
    let joined = await this.readAndSubmit(room).finally(() => room.give());
    for (let submits = 1; ; submits++) {
      if (joined === undefined || 'refusal' in joined) return joined?.refusal;
      const ended = await this.await(joined);
      if ('refusal' in ended) return ended.refusal;
      const { record } = ended;
      if (record === undefined) return undefined;
      if (record.state === 'done') return this.giveResult(record, joined.follower);
      const { kept } = this;
      if (submits === MAX_SUBMITS || kept === undefined || !this.mayRunAgain(record))
        return this.answer.hasBegun && record.state !== 'dead'
          ? STREAM_CUT
          : endedWithout(record, this.caller.timeLeftMs() > 0);
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
    if (message === undefined || this.caller.isGone) return undefined;
    if (!Buffer.isBuffer(message)) return message;
    const order = {
      path: String(this.headers[':path']),
      agentType,
      publisher: publishing.publisher,
      scope,
      fields: publishing.fieldsOf({ fields }),
      message,
      timeLeftMs: this.caller.timeLeftMs(),
    };
    return newTask(order, publishing.sealer);
  }

  /** Somebody else's deadline, or a caller of the same task that has left, ended it under this caller. */
  private mayRunAgain({ state, cause, deadlineAtMs, endedAtMs }: TaskRecord): boolean {
    if (state !== 'cancelled' || this.answer.hasBegun || this.caller.timeLeftMs() <= 0) return false;
    return cause === CALLER_LEFT || deadlineAtMs <= endedAtMs;
  }

  private async submit(task: NewTask): Promise<Joined | Refused> {
    const { log, waiting, counts, settings } = this.publishing;
    const waiter = waiting.begin();
    let submission: Submission | undefined;
    try {
      const options = { joinEndedForMs: settings.joinEndedForMs, isWatched: true, waiter };
      submission = await submitInTime(log, task, options, () => this.caller.timeLeftMs());
      if ('refusal' in submission) {
        const { refusal } = submission;
        if (refusal === OUTCOME_UNKNOWN)
          void leaveTask(this.publishing, task.key, waiter, this.caller.end ?? 'vanished');
        return submission;
      }
      const { outcome, record } = submission;
      if (outcome === 'stored') counts.count(this.agentType, 'published');
      else this.deduplicated = hasEnded(record) ? 'replayed' : 'joined';
      const { publishing, caller, answer, isUnary } = this;
      const follower = new TaskFollower(publishing, caller, answer, { record, isUnary });
      return { follower, record, waiter };
    } finally {
      if (submission === undefined || 'refusal' in submission) waiting.end();
    }
  }

  /** Follows the task as one of its waiting callers. Returns its last record, or a refusal; or neither, when nobody waits any more. */
  private async await({ follower, record, waiter }: Joined): Promise<Ended> {
    const room = this.roomFor(record);
    let ended: Ended | undefined;
    try {
      ended = await follower.follow(room);
      return ended;
    } finally {
      room.give();
      const hasEnd = ended !== undefined && 'record' in ended && ended.record !== undefined;
      if (!hasEnd) void leaveTask(this.publishing, record.key, waiter, this.caller.end ?? 'vanished');
      this.publishing.waiting.end();
    }
  }

  private get isUnary(): boolean {
    return isUnaryPath(String(this.headers[':path']));
  }

  private giveResult(record: TaskRecord, follower: TaskFollower): Promise<Refusal | undefined> {
    return withAnswer(this.publishing, record, this.roomFor(record), async (answer) => {
      if (answer === undefined) return follower.notThere;
      const { status, statusMessage, head, trailers, bytes } = answer;
      if (!this.answer.hasBegun && (head.length > 0 || bytes !== undefined)) this.answer.begin(head);
      if (bytes !== undefined) await this.answer.sendMessage(bytes, answer.pieces);
      const own = this.deduplicated === undefined ? [] : ['outrigger-deduplicated', this.deduplicated];
      this.answer.end(status, statusMessage, [...trailers, ...own]);
      return undefined;
    });
  }

  private roomFor({ caller }: TaskRecord): Room {
    return this.caller.roomIn(this.publishing.memory.answers, caller);
  }
}
