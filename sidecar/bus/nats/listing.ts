/** Lists of tasks, and counts of queues, for people. */

import type { ConsumerInfo } from '@nats-io/jetstream';
import { UnknownPageError } from '../log/log-errors.ts';
import type { ListOptions, QueueStatus, TaskPage } from '../log/task-log.ts';
import { eachHead } from './heads.ts';
import { agentTypeOf, laneSubjects, queueStream } from './names.ts';
import type { Store } from './store.ts';
import { type TaskEntry, toRecord } from './stored-task.ts';
import { dueStep } from './task-steps.ts';

const NO_BYTES = Buffer.alloc(0);
const MOST = 1_000;

export class Listing {
  private readonly store: Store;

  constructor(store: Store) {
    this.store = store;
  }

  /** Reads the heads of all keys; results stay where they are. */
  async list({ caller, agentType, state, limit, after }: ListOptions): Promise<TaskPage> {
    if (after !== undefined && !CURSOR.test(after)) throw new UnknownPageError();
    const nowMs = this.store.nowMs();
    const found: TaskEntry[] = [];
    // A caller's tasks were submitted under the own name; who takes none sees no others.
    const isOwn = caller !== undefined || !this.store.provision.takes;
    const publisher = isOwn ? this.store.connection.publisher : undefined;
    await eachHead(this.store.connection, { publisher }, ({ key, task: stored }) => {
      if (stored.state === 'dropped') return;
      if (caller !== undefined && stored.caller !== caller) return;
      if (agentType !== undefined && stored.agentType !== agentType) return;
      const due = dueStep(stored, nowMs, this.store.settings);
      const task = due ?? stored;
      if (state !== undefined && task.state !== state) return;
      found.push({ key, revision: 0, task, body: NO_BYTES });
    });
    const page = found
      .sort((a, b) => (cursorOf(a) < cursorOf(b) ? 1 : -1))
      .filter((entry) => after === undefined || cursorOf(entry) < after);
    const most = Math.min(Math.max(limit, 1), MOST);
    return {
      records: page.slice(0, most).map((entry) => toRecord(entry)),
      next: page.length > most ? cursorOf(page[most - 1]!) : undefined,
    };
  }

  async status(): Promise<readonly QueueStatus[]> {
    const names: string[] = [];
    await this.store.connection.manage(async (jsm) => {
      for await (const name of jsm.streams.names('outrigger.tasks.>')) names.push(name);
    });
    const types = names.map(agentTypeOf).filter((agentType) => agentType !== undefined);
    return Promise.all(types.sort().map((agentType) => this.statusOf(agentType)));
  }

  private async statusOf(agentType: string): Promise<QueueStatus> {
    const stream = queueStream(agentType);
    const lanes: ConsumerInfo[] = [];
    const [info, dead] = await Promise.all([
      this.store.connection.manage(async (jsm) => {
        for await (const lane of jsm.consumers.list(stream)) lanes.push(lane);
        return jsm.streams.info(stream);
      }),
      this.store.deadLetters.count(agentType),
    ]);
    // What is delivered runs, or waits for its next run after a loss.
    const running = lanes.reduce((sum, lane) => sum + lane.num_ack_pending, 0);
    const queued = Math.max(0, info.state.messages - running);
    return {
      agentType,
      queued,
      running,
      dead,
      oldestMs: queued === 0 ? 0 : await this.oldestMs(agentType, lanes),
    };
  }

  private async oldestMs(agentType: string, lanes: readonly ConsumerInfo[]): Promise<number> {
    const stream = queueStream(agentType);
    if (lanes.length === 0) {
      const first = await this.store.connection.directGet(stream, { seq: 1, next_by_subj: '>' });
      return first === undefined ? 0 : Math.max(0, this.store.nowMs() - first.timeMs);
    }
    const firsts = await Promise.all(
      lanes.map(async (lane, index) => {
        if (lane.num_pending === 0) return Number.POSITIVE_INFINITY;
        const filter = lane.config.filter_subject ?? laneSubjects(agentType, index);
        const seq = lane.delivered.stream_seq + 1;
        const next = await this.store.connection.directGet(stream, { seq, next_by_subj: filter });
        return next?.timeMs ?? Number.POSITIVE_INFINITY;
      }),
    );
    const oldest = Math.min(...firsts);
    return Number.isFinite(oldest) ? Math.max(0, Math.floor(this.store.nowMs() - oldest)) : 0;
  }
}

/** Matches what {@link cursorOf} makes. */
const CURSOR = /^\d{15}\.\d{4}\.[A-Za-z0-9_-]{43}$/;

/** Latest first; the key tells tasks of one millisecond apart. */
function cursorOf({ key, task }: TaskEntry): string {
  return `${task.submittedAtMs.toFixed(4).padStart(20, '0')}.${key}`;
}
