/** The runs of tasks in the file: who takes one holds its lease, and only the holder writes. */
import { FencedError, LogUnavailableError } from '../log/log-errors.ts';

import { runsAlone } from '../log/lost-runs.ts';
import { loseRun } from './passing-time.ts';
import type { Held, Taken } from './requests.ts';
import { storeAnswer } from './results.ts';
import type { TaskFile } from './task-file.ts';
import { recordOf, type TaskRow } from './task-rows.ts';
import { dueWhileRunning, end, queueAgain, startRun, uncounted, update } from './task-steps.ts';

/** The request of such a task is given with it; a larger one when there is room for it. */
const SMALL_REQUEST_BYTES = 16_384;

/** Takes the next task of these types, of the caller whose turn it is. */
export function take(file: TaskFile, agentTypes: readonly string[], holder: string): Taken | undefined {
  const row = nextTask(file, agentTypes);
  if (row === undefined) return undefined;
  const { leaseMs, maxRuns, retryDelay } = file.settings;
  const lease_until = file.nowMs + leaseMs;
  const running = startRun(file, row, {
    run: row.run + 1,
    // A task that runs alone may wait long for the others to end.
    began: runsAlone({ lostRuns: row.lost_runs }) ? 0 : 1,
    fence: file.nextFence(),
    holder,
    started_at: file.nowMs,
    started_before: row.started_at,
    lease_until,
    due_at: dueWhileRunning(row, lease_until),
    max_runs: maxRuns,
    retry_base: retryDelay.baseMs,
    retry_max: retryDelay.maxMs,
  });
  const held = { task: row.id, fence: running.fence, key: row.key, run: running.run };
  const payload = row.request_bytes <= SMALL_REQUEST_BYTES ? payloadOf(file, row) : undefined;
  return { held, record: recordOf(running, undefined), requestBytes: row.request_bytes, payload };
}

export function request(file: TaskFile, held: Held): Uint8Array {
  return payloadOf(file, heldTask(file, held));
}

function payloadOf(file: TaskFile, { id }: TaskRow): Uint8Array {
  return file.get<{ payload: Uint8Array }>('SELECT payload FROM requests WHERE task = ?', id)!.payload;
}

/** Whether {@link take} would find a task. */
export function hasTask(file: TaskFile, agentTypes: readonly string[]): boolean {
  return nextTask(file, agentTypes) !== undefined;
}

export function begin(file: TaskFile, held: Held): undefined {
  const row = heldTask(file, held);
  if (row.began === 0) update(file, row, { began: 1, ...renewed(file, row) });
}

export function extend(file: TaskFile, held: Held): undefined {
  const row = heldTask(file, held);
  update(file, row, renewed(file, row));
}

/** Appends messages. A batch that is there already was sent again, because its first answer was lost. */
export function write(
  file: TaskFile,
  held: Held,
  firstSequence: number,
  count: number,
  payload: Buffer,
): undefined {
  const row = heldTask(file, held);
  const lastSequence = firstSequence + count - 1;
  if (lastSequence <= row.last_sequence) return;
  if (firstSequence !== row.last_sequence + 1) {
    const message = `messages from ${firstSequence} on follow no message ${row.last_sequence}: write the batch before them again`;
    throw new LogUnavailableError(message, false);
  }
  file.run(
    'INSERT INTO chunks (task, run, first_sequence, last_sequence, payload) VALUES (?, ?, ?, ?, ?)',
    row.id,
    row.run,
    firstSequence,
    lastSequence,
    payload,
  );
  file.addResultBytes(payload.length);
  update(file, row, {
    began: 1,
    run_sequence: lastSequence,
    last_sequence: lastSequence,
    chunk_bytes: row.chunk_bytes + payload.length,
  });
}

export function settle(file: TaskFile, held: Held, status: number, payload: Buffer): undefined {
  const before = file.get<TaskRow>('SELECT * FROM tasks WHERE id = ?', held.task);
  // The result is there already: the answer to the first try was lost.
  if (before?.state === 'done' && before.fence === held.fence && before.key === held.key) return;
  const row = heldTask(file, held);
  storeAnswer(file, row, payload);
  file.addResultBytes(payload.length);
  end(file, row, 'done', { status, result_bytes: payload.length });
}

export function giveBack(file: TaskFile, held: Held): undefined {
  const row = heldTask(file, held);
  // A run whose chunks somebody may have seen keeps its number.
  queueAgain(file, row, row.run_sequence > 0 ? {} : uncounted(row));
}

export function lose(file: TaskFile, held: Held, cause: string): undefined {
  loseRun(file, heldTask(file, held), cause);
}

export function bury(file: TaskFile, held: Held, cause: string): undefined {
  end(file, heldTask(file, held), 'dead', { cause });
}

/** Whether a run still counts, and otherwise why not. */
export function fenceOf(
  row: TaskRow | undefined,
  { fence, key }: Held,
  nowMs: number,
): 'held' | 'lost' | 'cancelled' {
  if (row === undefined || row.key !== key || row.fence !== fence) return 'lost';
  if (row.state === 'cancelled') return 'cancelled';
  if (row.state !== 'running') return 'lost';
  return row.deadline_at !== null && row.deadline_at <= nowMs ? 'cancelled' : 'held';
}

function heldTask(file: TaskFile, held: Held): TaskRow {
  const row = file.get<TaskRow>('SELECT * FROM tasks WHERE id = ?', held.task);
  const fence = fenceOf(row, held, file.nowMs);
  if (row === undefined || fence !== 'held')
    throw new FencedError(held.key, held.run, fence === 'cancelled' ? 'cancelled' : 'lost');
  return row;
}

function nextTask(file: TaskFile, agentTypes: readonly string[]): TaskRow | undefined {
  let best: { row: TaskRow; turn: number } | undefined;
  for (const agentType of agentTypes) {
    const callers = file.each<{ caller: string; turn: number }>(
      'SELECT caller, turn FROM callers WHERE agent_type = ? ORDER BY turn',
      agentType,
    );
    for (const { caller, turn } of callers) {
      if (best !== undefined && turn > best.turn) break;
      const row = firstOf(file, agentType, caller);
      if (row === undefined) continue;
      best = { row, turn };
      break;
    }
  }
  return best?.row;
}

/** The caller's oldest task that may be taken now. */
function firstOf(file: TaskFile, agentType: string, caller: string): TaskRow | undefined {
  return file.get<TaskRow>(
    `SELECT * FROM tasks WHERE agent_type = ? AND caller = ? AND state = 'queued' AND available_at <= ?
     AND expires_at > ? AND (deadline_at IS NULL OR deadline_at > ?) ORDER BY available_at, id LIMIT 1`,
    agentType,
    caller,
    file.nowMs,
    file.nowMs,
    file.nowMs,
  );
}

function renewed(file: TaskFile, row: TaskRow): Pick<TaskRow, 'lease_until' | 'due_at'> {
  const lease_until = file.nowMs + file.settings.leaseMs;
  return { lease_until, due_at: dueWhileRunning(row, lease_until) };
}
