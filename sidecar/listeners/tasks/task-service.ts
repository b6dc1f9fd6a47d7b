/** Serves `outrigger.v1.Tasks` from the bus: off the data path, and to the caller alone that submitted a task. */
import type { TaskRecord } from '../../bus/log/task-record.ts';
import { Room } from '../../bus/memory/room.ts';
import { callerOf, newTask } from '../../bus/message/new-task.ts';
import type { Fields } from '../../bus/message/payload.ts';
import type { Publishing } from '../../bus/publisher/publishing.ts';
import { OUTCOME_UNKNOWN, STORE_REPLACED } from '../../bus/publisher/refusals.ts';
import { REQUEST_COPIES } from '../../bus/publisher/request-reader.ts';
import { submitInTime } from '../../bus/publisher/submission.ts';
import { Status } from '../../grpc/status.ts';
import type { MessageHead } from '../../http2/head.ts';
import type { HeaderList } from '../../http2/hpack/header-list.ts';
import type { Stream } from '../../http2/streams.ts';
import { FairPlaces } from '../../policy/fair-places.ts';
import { callerOf as callerOfConnection } from '../../proxy/caller.ts';
import { callerScope, scopeDigest } from '../../proxy/caller-scope.ts';
import type { LocalServices } from '../../proxy/context.ts';
import { type RequestInfo, requestInfo } from '../../proxy/request-info.ts';
import { isAgentType } from '../../settings/kinds.ts';
import { readTaskKey } from '../../task/task-message.ts';
import type { InboundKeys } from '../listener-settings.ts';
import { LocalCall } from './local-call.ts';
import { RunnerNames } from './runner-names.ts';
import { roomOf, TaskAnswers } from './task-answers.ts';
import {
  readList,
  readSubmit,
  readTaskName,
  readWatch,
  type SubmitRequest,
  writeList,
  writeTask,
} from './task-messages.ts';
import {
  BAD_MESSAGE,
  DRAINING,
  invalid,
  NO_BUS,
  OTHER_REQUEST,
  OVERSIZE,
  RefusedCall,
  refusalFor,
  tooMany,
  UNKNOWN_TASK,
  valid,
  WATCH_CUT,
} from './task-refusals.ts';
import { TaskStory, type Told } from './task-story.ts';

const SERVICE_PREFIX = '/outrigger.v1.Tasks/';
/** A request other than Submit has a few short fields. */
const SHORT_REQUEST_BYTES = 4_096;
/** What Submit has beside the task. */
const SUBMIT_FIELDS_BYTES = 4_096;
const MAX_NAME_CHARS = 256;
const MAX_TOKEN_CHARS = 1_024;
/** 30 days; as the gateway's `timeout_ms`. */
const LONGEST_TIMEOUT_MS = 2_592_000_000;
const USUAL_PAGE = 50;
const LARGEST_PAGE = 200;
const TASK_ID = /^[A-Za-z0-9_-]{43}$/;
/** Calls that are answered at once. */
const MAX_CALLS = 256;
/** Each reads the log until its task ends, and a slow one holds what was read at once: 256 KiB. */
const MAX_WATCHES = 512;

/** The bus, as this service needs it. */
export type TaskBus = Pick<Publishing, 'log' | 'sealer' | 'memory' | 'publisher' | 'counts' | 'fieldsOf'>;

/** What is asked for here stays as long as the log keeps it. */
const JOIN_ALL = { joinEndedForMs: Number.POSITIVE_INFINITY };

export interface TaskServiceOptions {
  /** How long a reader may take nothing; undefined for the usual time. */
  readonly patienceMs?: number;
  /** What the tasks of this side's app carry on; undefined on the side of which others submit. */
  lineageOf?(info: RequestInfo, ids: { readonly taskId: string; readonly correlationId: string }): Lineage;
}

interface Lineage {
  /** They replace those of the same names. */
  readonly fields: Fields;
  end(isStored: boolean): void;
}

export class TaskService implements LocalServices {
  /** Undefined without `bus.url`. */
  bus: TaskBus | undefined = undefined;
  /** `inbound.tasks.scope_headers`. */
  private scopeHeaders: readonly string[] = [];
  private maxMessageBytes = 0;
  private readonly options: TaskServiceOptions;
  private readonly calls = new FairPlaces(MAX_CALLS);
  private readonly watches = new FairPlaces(MAX_WATCHES);
  private readonly open = new Set<LocalCall>();
  private readonly runners = new RunnerNames();
  private readonly answers = new TaskAnswers(this.runners);

  constructor(options: TaskServiceOptions = {}) {
    this.options = options;
  }

  update({ tasks, maxMessageBytes }: Pick<InboundKeys, 'tasks' | 'maxMessageBytes'>): void {
    this.scopeHeaders = tasks.scopeHeaders;
    this.maxMessageBytes = maxMessageBytes;
  }

  serve(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): boolean {
    const { path } = head;
    if (!path.startsWith(SERVICE_PREFIX)) return false;
    const info = requestInfo(list, head);
    if (!info.grpc) return false;
    const method = path.slice(SERVICE_PREFIX.length);
    const { maxMessageBytes } = this;
    const maxBytes = method === 'Submit' ? maxMessageBytes + SUBMIT_FIELDS_BYTES : SHORT_REQUEST_BYTES;
    const onRequest = (complete: LocalCall): void => this.answer(complete, method, info);
    const call = new LocalCall(stream, list, maxBytes, onRequest, this.options.patienceMs);
    stream.handler = call;
    if (endStream) call.onComplete();
    return true;
  }

  get openCalls(): number {
    return this.open.size;
  }

  /** The sidecar stops: ends all calls, so that their callers ask another replica. */
  endCalls(): void {
    for (const call of this.open) call.fail(DRAINING);
  }

  private answer(call: LocalCall, method: string, info: RequestInfo): void {
    const { bus } = this;
    const refusal = call.list.oversize ? OVERSIZE : bus === undefined ? NO_BUS : undefined;
    if (refusal !== undefined) {
      call.fail(refusal);
      return;
    }
    const { tasks, taskWatches } = callerOfConnection(call.connection);
    const [places, holder] = method === 'Watch' ? [this.watches, taskWatches] : [this.calls, tasks];
    if (!places.take(holder)) {
      call.fail(tooMany(places, holder));
      return;
    }
    this.open.add(call);
    void this.run(call, method, info, bus!).then(() => {
      this.open.delete(call);
      places.release(holder);
    });
  }

  private async run(call: LocalCall, method: string, info: RequestInfo, bus: TaskBus): Promise<void> {
    try {
      // A large one is read when there is room for what is made of it.
      const message = method === 'Submit' ? NO_MESSAGE : call.readMessage();
      if (message === undefined) return;
      switch (method) {
        case 'Submit':
          await this.submit(call, info, bus);
          break;
        case 'Get':
          await this.get(call, message, bus);
          break;
        case 'Watch':
          await this.watch(call, message, bus);
          break;
        case 'Cancel':
          await this.cancel(call, message, bus);
          break;
        case 'List':
          await call.send(await this.list(call, message, bus));
          break;
        default:
          throw new RefusedCall({
            status: Status.UNIMPLEMENTED,
            message: `outrigger.v1.Tasks has no method ${method.slice(0, 64)}`,
            reason: 'no_route',
          });
      }
      call.finish();
    } catch (error) {
      call.fail(refusalFor(error));
    }
  }

  private async submit(call: LocalCall, info: RequestInfo, bus: TaskBus): Promise<void> {
    const { record, withoutLarge } = await this.submitInRoom(call, info, bus);
    await this.answers.sendTask(call, record, bus, withoutLarge);
  }

  private async submitInRoom(
    call: LocalCall,
    info: RequestInfo,
    bus: TaskBus,
  ): Promise<{ record: TaskRecord; withoutLarge: boolean }> {
    const caller = callerOf(bus.publisher, this.scopeOf(call));
    const room = new Room(bus.memory.requests, {
      caller,
      signal: call.gone,
      timeLeftMs: () => call.timeLeftMs,
    });
    try {
      await room.take(REQUEST_COPIES * call.requestBytes);
      const message = call.readMessage();
      if (message === undefined) throw new RefusedCall(BAD_MESSAGE);
      // What it is inflated to.
      await room.take(REQUEST_COPIES * message.length);
      const request = valid(readSubmit(message));
      return { record: await this.store(call, request, info, bus), withoutLarge: request.withoutLarge };
    } finally {
      room.give();
    }
  }

  private async store(
    call: LocalCall,
    request: SubmitRequest,
    info: RequestInfo,
    bus: TaskBus,
  ): Promise<TaskRecord> {
    const { task, path, timeoutMs, idempotencyKey } = request;
    if (path === undefined) throw invalid('method is unknown here: use PROCESS_TASK or STREAM_PROCESS');
    if (task.length > this.maxMessageBytes)
      throw new RefusedCall({
        status: Status.RESOURCE_EXHAUSTED,
        message: `the task has ${task.length} bytes; inbound.max_message_bytes allows ${this.maxMessageBytes}`,
        reason: 'message_too_large',
      });
    const ids = readTaskKey(task, 0, task.length);
    const agentType = request.agentType || ids.agentType;
    if (!isAgentType(agentType))
      throw invalid(
        'name the agent in agent_type or task.agent_type: at most 63 letters, digits, ".", "_" and "-", as bus.consume.agent_types has it',
      );
    if (idempotencyKey.length > MAX_NAME_CHARS)
      throw invalid(`idempotency_key has more than ${MAX_NAME_CHARS} characters`);
    if (!(timeoutMs >= 0 && timeoutMs <= LONGEST_TIMEOUT_MS))
      throw invalid(`timeout_ms is 0 for no deadline, or at most ${LONGEST_TIMEOUT_MS}, which are 30 days`);
    const endMs = timeoutMs > 0 ? performance.now() + timeoutMs : Number.POSITIVE_INFINITY;
    const timeLeftMs = () => endMs - performance.now();
    const lineage = this.options.lineageOf?.(info, ids);
    let mayBeStored = false;
    try {
      const stored = newTask(
        {
          path,
          agentType,
          publisher: bus.publisher,
          scope: this.scopeOf(call),
          fields: bus.fieldsOf({ fields: replaced(call.list.fields, lineage?.fields ?? []) }),
          message: task,
          timeLeftMs: timeLeftMs(),
          idempotencyKey,
        },
        bus.sealer,
      );
      const { key, digest } = stored;
      if (idempotencyKey !== '') {
        const before = await bus.log.get(key);
        if (before !== undefined && before.digest !== digest) throw new RefusedCall(OTHER_REQUEST);
      }
      const submitted = await submitInTime(bus.log, stored, JOIN_ALL, () => call.timeLeftMs, timeLeftMs);
      if ('refusal' in submitted) {
        mayBeStored = submitted.refusal === OUTCOME_UNKNOWN;
        throw new RefusedCall(submitted.refusal);
      }
      const { record, outcome } = submitted;
      if (record.digest !== digest) throw new RefusedCall(OTHER_REQUEST);
      mayBeStored = outcome === 'stored';
      if (mayBeStored) bus.counts.count(agentType, 'published');
      return record;
    } finally {
      lineage?.end(mayBeStored);
    }
  }

  private async get(call: LocalCall, message: Buffer, bus: TaskBus): Promise<void> {
    const name = valid(readTaskName(message));
    await this.answers.sendTask(call, await this.find(call, name, bus), bus, name.withoutLarge);
  }

  private async cancel(call: LocalCall, message: Buffer, bus: TaskBus): Promise<void> {
    const name = valid(readTaskName(message));
    const { key } = await this.find(call, name, bus);
    const record = await bus.log.cancel(key, 'its caller cancelled it');
    if (record === undefined) throw new RefusedCall(UNKNOWN_TASK);
    await this.answers.sendTask(call, record, bus, name.withoutLarge);
  }

  private async list(call: LocalCall, message: Buffer, bus: TaskBus): Promise<Buffer> {
    const { state, agentType, pageSize, pageToken } = valid(readList(message));
    if (state === 'unknown') throw invalid('state is unknown here');
    if (pageToken.length > MAX_TOKEN_CHARS || agentType.length > MAX_NAME_CHARS)
      throw invalid('page_token and agent_type come from earlier answers; these are too long');
    const { records, next } = await bus.log.list({
      caller: callerOf(bus.publisher, this.scopeOf(call)),
      limit: pageSize <= 0 || pageSize > 2 ** 31 ? USUAL_PAGE : Math.min(pageSize, LARGEST_PAGE),
      ...(state === undefined ? {} : { state }),
      ...(agentType === '' ? {} : { agentType }),
      ...(pageToken === '' ? {} : { after: pageToken }),
    });
    const tasks: Buffer[] = [];
    for (const record of records) tasks.push(writeTask(record, await this.runners.of(record, bus.log)));
    return writeList(tasks, next);
  }

  private async watch(call: LocalCall, message: Buffer, bus: TaskBus): Promise<void> {
    const { id, fromSequence, withoutLarge } = valid(readWatch(message));
    const record = await this.find(call, { id }, bus);
    const { storeId } = bus.log;
    const held = Math.max(0, Math.min(fromSequence, Number.MAX_SAFE_INTEGER) - 1);
    const story = new TaskStory(record, held, (payload) => bus.sealer.open(payload));
    const tell = async (told: Iterable<Told>): Promise<void> => {
      for (const one of told) await this.answers.sendTold(call, one, bus, withoutLarge);
    };
    await tell(story.begin());
    const room = roomOf(call, record, bus);
    try {
      for await (const event of bus.log.watch(id, story.readAfter, call.gone, room)) {
        await tell(story.tell(event));
        if (call.gone.aborted) return;
      }
    } finally {
      room.give();
    }
    if (!story.isOver && !call.gone.aborted) throw await this.cutShort(id, storeId, bus);
    await tell(story.finish());
  }

  /** The log has no more to say of a task that it had and that has not ended. */
  private async cutShort(id: string, storeId: string | undefined, { log }: TaskBus): Promise<RefusedCall> {
    if ((await log.get(id)) !== undefined) return new RefusedCall(WATCH_CUT);
    return new RefusedCall(log.storeId === storeId ? UNKNOWN_TASK : STORE_REPLACED);
  }

  /** The task of this name, if the caller has submitted it. Others learn nothing of it, not even that it is there. */
  private async find(
    call: LocalCall,
    { id }: { readonly id: string },
    { log, publisher }: TaskBus,
  ): Promise<TaskRecord> {
    if (!TASK_ID.test(id)) throw invalid('id is no id of a task; Submit and List give it');
    const record = await log.get(id);
    if (record === undefined || record.caller !== callerOf(publisher, this.scopeOf(call)))
      throw new RefusedCall(UNKNOWN_TASK);
    return record;
  }

  private scopeOf({ list, connection }: LocalCall): string {
    return scopeDigest(callerScope(connection.identity?.name ?? '', list, this.scopeHeaders));
  }
}

function replaced(fields: Fields, by: Fields): Fields {
  const kept: string[] = [];
  for (let i = 0; i < fields.length; i += 2)
    if (!by.some((name, at) => at % 2 === 0 && name === fields[i])) kept.push(fields[i]!, fields[i + 1]!);
  return [...kept, ...by];
}

const NO_MESSAGE = Buffer.alloc(0);
