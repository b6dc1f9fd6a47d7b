/** The events of a task that a watcher has not seen: its state, and chunks for which the watcher has room. */
import type { TaskEvent } from '../log/task-log.ts';
import { hasEnded } from '../log/task-record.ts';
import { recordWithResult } from './readings.ts';
import type { Operations, Watched } from './requests.ts';
import type { TaskFile } from './task-file.ts';
import { bufferOf } from './task-rows.ts';
import { taskOf } from './task-steps.ts';

/** The events after a position; undefined while there are none. */
export function eventsAfter(
  file: TaskFile,
  { key, position: from, maxBytes }: Operations['watch']['in'],
): Watched | undefined {
  const row = taskOf(file, key);
  if (row === undefined) return { events: [], position: from, isLast: true, neededBytes: 0 };
  const { generation } = row;
  // Sequences of a new generation begin again.
  const isSame = from.generation === 0 || from.generation === generation;
  const record = recordWithResult(file, row);
  const mark = `${generation} ${row.state} ${row.run} ${row.lost_runs}`;
  const events: TaskEvent[] = [];
  // The end comes after the last chunk.
  if (mark !== from.mark && !hasEnded(record)) events.push({ kind: 'state', record });
  const { afterSequence, neededBytes, areAll } = readChunks(
    file,
    row.id,
    isSame ? from.afterSequence : 0,
    maxBytes,
    events,
  );
  const isLast = hasEnded(record) && areAll;
  if (isLast) events.push({ kind: 'state', record });
  if (events.length === 0 && neededBytes === 0) return undefined;
  const position = { mark: hasEnded(record) ? '' : mark, generation, afterSequence };
  return { events, position, isLast, neededBytes };
}

/** A row tells where chunks' bytes lie: they are read only when there is room for them. */
interface ChunkRow {
  readonly id: number;
  readonly run: number;
  readonly first_sequence: number;
  readonly last_sequence: number;
  readonly bytes: number;
}

function readChunks(
  file: TaskFile,
  task: number,
  after: number,
  maxBytes: number,
  events: TaskEvent[],
): { afterSequence: number; neededBytes: number; areAll: boolean } {
  let afterSequence = after;
  let bytes = 0;
  const chunks = file.each<ChunkRow>(
    `SELECT id, run, first_sequence, last_sequence, length(payload) AS bytes FROM chunks
     WHERE task = ? AND last_sequence > ? ORDER BY last_sequence`,
    task,
    afterSequence,
  );
  for (const chunk of chunks) {
    if (bytes + chunk.bytes > maxBytes)
      return { afterSequence, neededBytes: bytes === 0 ? chunk.bytes : 0, areAll: false };
    const { run, first_sequence: firstSequence, last_sequence } = chunk;
    const { payload } = file.get<{ payload: Uint8Array }>(
      'SELECT payload FROM chunks WHERE id = ?',
      chunk.id,
    )!;
    const count = last_sequence - firstSequence + 1;
    events.push({ kind: 'chunks', batch: { run, firstSequence, count, payload: bufferOf(payload) } });
    bytes += chunk.bytes;
    afterSequence = last_sequence;
  }
  return { afterSequence, neededBytes: 0, areAll: true };
}
