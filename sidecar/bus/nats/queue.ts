/** The queue of an agent type: a stream that keeps each task's request until the task has ended. */
import { JetStreamApiError } from '@nats-io/jetstream';
import type { Msg } from '@nats-io/transport-node';
import { LogSetupError, LogUnavailableError } from '../log/log-errors.ts';
import type { FullPart } from '../log/task-log.ts';
import type { NewTask } from '../log/task-record.ts';
import { type BusConnection, STREAM_FULL } from './connection.ts';
import { type Delivery, type QueuedHead, type QueuedTask, readDelivery, readQueued } from './delivery.ts';
import { headOf } from './head.ts';
import { LanePulls } from './lane-pulls.ts';
import type { LargeBodies } from './large-bodies.ts';
import { laneConsumer, queueStream, requestSubject, taskSubject } from './names.ts';
import type { TaskEntry } from './stored-task.ts';

export type Enqueued =
  | { readonly refused: FullPart }
  | { readonly refused: undefined; readonly sequence: number; readonly duplicate: boolean };

const MOST_SEQUENCES = 10_000;
const LOOKED_AT_ONCE = 64;

export class Queue {
  private readonly connection: BusConnection;
  private readonly requests: LargeBodies;
  private readonly pulls = new Map<string, LanePulls>();
  /** Of requests that were stored here, the latest ones: what is cancelled leaves its queue at once. */
  private readonly sequences = new Map<string, number>();

  constructor(connection: BusConnection, requests: LargeBodies) {
    this.connection = connection;
    this.requests = requests;
  }

  /** Stores a large request in parts, and names them; '' for one that fits into a message. */
  async putParts(task: NewTask, untilMs: number): Promise<string> {
    const { payload } = task;
    if (!this.requests.isLarge(payload)) return '';
    return this.requests.put((id) => requestSubject(task, id), payload, untilMs);
  }

  removeParts(task: NewTask, name: string): void {
    if (name !== '') void this.requests.remove(requestSubject(task, name)).catch(() => {});
  }

  /** Stores a request under an id of its own, so that it may be sent again. */
  async put(task: NewTask, entry: TaskEntry, untilMs: number): Promise<Enqueued> {
    const { key, digest, agentType, caller, publisher, payload } = task;
    const { generation, largeRequest: large, submittedAtMs, deadlineAtMs, wanted } = entry.task;
    const { revision } = entry;
    const { length: requestBytes } = payload;
    const head: QueuedHead = {
      key,
      digest,
      generation,
      revision,
      submittedAtMs,
      deadlineAtMs,
      wanted,
      requestBytes,
      large,
    };
    const subject = taskSubject(agentType, caller, publisher);
    const body = large === '' ? payload : Buffer.alloc(0);
    try {
      const stored = await this.connection.persist(untilMs, () =>
        this.connection.store(subject, body, headOf(head), `${publisher}.${key}.${generation}`),
      );
      this.remember(key, generation, stored.sequence);
      return { refused: undefined, ...stored };
    } catch (error) {
      if (!(error instanceof JetStreamApiError)) throw error;
      return { refused: refusalOf(error) };
    }
  }

  /** The sequence of a request that was stored here; 0 for others. */
  sequenceOf(key: string, generation: number): number {
    return this.sequences.get(`${key}.${generation}`) ?? 0;
  }

  private remember(key: string, generation: number, sequence: number): void {
    this.sequences.set(`${key}.${generation}`, sequence);
    if (this.sequences.size > MOST_SEQUENCES) this.sequences.delete(this.sequences.keys().next().value!);
  }

  /** One request of a lane, or undefined when none waits there now. */
  async pull(agentType: string, lane: number): Promise<Delivery | undefined> {
    const name = `${agentType}.${lane}`;
    let pulls = this.pulls.get(name);
    if (pulls === undefined) {
      pulls = new LanePulls(this.connection, queueStream(agentType), laneConsumer(lane), ({ reply }) => {
        if (reply !== undefined) this.connection.publish(reply, '-NAK');
      });
      this.pulls.set(name, pulls);
    }
    const message = await pulls.pull();
    if (message === undefined) return undefined;
    const delivery = readDelivery(agentType, lane, message);
    if (delivery === undefined) this.refuse(message);
    return delivery;
  }

  /** The bus is away. */
  resetPulls(): void {
    for (const pulls of this.pulls.values()) pulls.reset();
  }

  close(): void {
    for (const pulls of this.pulls.values()) pulls.close();
    this.pulls.clear();
  }

  /** A task's request, wherever it is delivered; where nobody here knows its sequence, it is looked for. */
  async find({ key, task }: TaskEntry): Promise<QueuedTask | undefined> {
    const { agentType, caller, publisher, generation } = task;
    const stream = queueStream(agentType);
    const sequence = task.queued === 0 ? this.sequenceOf(key, generation) : task.queued;
    if (sequence !== 0) {
      const stored = await this.connection.directGet(stream, { seq: sequence });
      const found = stored === undefined ? undefined : readQueued(agentType, stored);
      return found?.key === key ? found : undefined;
    }
    const subject = taskSubject(agentType, caller, publisher);
    for (let from = 1; ; ) {
      const some = await this.connection.directBatch(stream, subject, from, LOOKED_AT_ONCE);
      if (some.length === 0) return undefined;
      for (const stored of some) {
        const found = readQueued(agentType, stored);
        if (found?.key === key && found.generation === generation) return found;
        from = stored.seq + 1;
      }
    }
  }

  /** The request's bytes; undefined when they are gone. */
  async payload(task: QueuedTask): Promise<Buffer | undefined> {
    return task.large === '' ? task.body : this.requests.get(requestSubject(task, task.large));
  }

  /** The task has ended. */
  acknowledge({ reply }: Delivery): void {
    this.connection.publish(reply, '+ACK');
  }

  /** Another may have it, after the delay. */
  release({ reply }: Delivery, delayMs: number): void {
    const delay = Math.ceil(delayMs * 1e6);
    this.connection.publish(reply, delay > 0 ? `-NAK ${JSON.stringify({ delay })}` : '-NAK');
  }

  /** It is no task: a stranger has put it there, and it names no key. The server forgets it. */
  refuse({ reply }: Msg): void {
    if (reply !== undefined) this.connection.publish(reply, '+TERM');
  }

  /** It is being worked on: another may have it after the lease, whatever the lease of who made the lane. */
  hold(delivery: Delivery, leaseMs: number): void {
    this.release(delivery, leaseMs);
  }

  /** Removes a request that is not ours to acknowledge. */
  async remove(agentType: string, sequence: number): Promise<void> {
    const body = JSON.stringify({ seq: sequence, no_erase: true });
    await this.connection.request(`$JS.API.STREAM.MSG.DELETE.${queueStream(agentType)}`, body);
  }
}

function refusalOf(error: JetStreamApiError): FullPart {
  if (error.code !== STREAM_FULL)
    throw new LogSetupError(
      `the NATS server refuses the task (${error.message}): run outrigger bus setup`,
      error,
    );
  if (error.message.includes('per subject')) return 'caller_full';
  if (error.message.includes('maximum messages')) return 'agent_full';
  if (error.message.includes('maximum bytes')) return 'bytes_full';
  throw new LogUnavailableError(`the bus stored nothing (${error.message})`, false, error);
}
