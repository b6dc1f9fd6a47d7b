/** Answers in the file: in parts, so that neither this thread nor its readers hold a large one at once. */
import { ANSWER_PIECE_BYTES } from '../log/task-log.ts';
import { SHORT_ANSWER_BYTES } from '../log/task-record.ts';
import type { TaskFile } from './task-file.ts';
import type { TaskRow } from './task-rows.ts';

/** More than the parts of the largest answer that can be configured. */
const PARTS = 65_536;

export function storeAnswer(file: TaskFile, { id }: Pick<TaskRow, 'id'>, payload: Uint8Array): void {
  const count = Math.max(1, Math.ceil(payload.length / ANSWER_PIECE_BYTES));
  for (let part = 0; part < count; part++) {
    const bytes = payload.subarray(part * ANSWER_PIECE_BYTES, (part + 1) * ANSWER_PIECE_BYTES);
    file.run('INSERT INTO results VALUES (?, ?)', id * PARTS + part, bytes);
  }
}

/** One part of a task's answer; undefined after the last one, and when it is no longer kept. */
export function answerPart(
  file: TaskFile,
  row: TaskRow | undefined,
  generation: number,
  part: number,
): Uint8Array | undefined {
  return row?.state === 'done' && row.generation === generation ? partOf(file, row, part) : undefined;
}

/** The answer of a done task, if it is short. */
export function shortAnswer(file: TaskFile, row: TaskRow): Uint8Array | undefined {
  return row.state === 'done' && row.result_bytes <= SHORT_ANSWER_BYTES ? partOf(file, row, 0) : undefined;
}

export function dropAnswer(file: TaskFile, { id }: Pick<TaskRow, 'id'>): void {
  file.run('DELETE FROM results WHERE part BETWEEN ? AND ?', id * PARTS, id * PARTS + PARTS - 1);
}

function partOf(file: TaskFile, { id }: TaskRow, part: number): Uint8Array | undefined {
  return file.get<{ payload: Uint8Array }>('SELECT payload FROM results WHERE part = ?', id * PARTS + part)
    ?.payload;
}
