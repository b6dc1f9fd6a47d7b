/** What SQLite's errors mean for those whose requests failed. */
import { FencedError, LogUnavailableError } from '../log/log-errors.ts';
import type { Submitted } from '../log/task-log.ts';
import type { Failure, FromThread, Request } from './requests.ts';

const SQLITE_BUSY = 5;
const SQLITE_FULL = 13;
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;

export const isBusy = (error: unknown): boolean => codeOf(error) === SQLITE_BUSY;

const isFull = (error: unknown): boolean => codeOf(error) === SQLITE_FULL;

/** A submit for which the disk has no room is refused, as for a full store; everything else fails. */
export function answerToFailure({ id, name }: Request, error: unknown): FromThread {
  const refused: Submitted = { outcome: 'refused', reason: 'store_full' };
  if (name === 'submit' && isFull(error)) return { name: 'done', id, output: refused };
  return { name: 'failed', id, failure: failureOf(error) };
}

/** Nothing of a transaction that failed is stored; only where the disk fails while it stores, nobody knows. */
export function failureOf(error: unknown): Failure {
  if (error instanceof FencedError) return { kind: 'fenced', because: error.because };
  if (error instanceof LogUnavailableError) return unavailable(error.message, error.isOutcomeUnknown);
  if (isFull(error)) return unavailable('the disk of the task file is full: make room on it', false);
  return unavailable(`the task file can't be used: ${troubleOf(error)}`, !isBusy(error));
}

/** Why the file can't be used; undefined where only this request could not: a full disk still serves who reads. */
export function troubleOf(error: unknown): string | undefined {
  if (isFull(error)) return undefined;
  if (isBusy(error))
    return 'another process has locked it: look for one that is stopped, or is not Outrigger';
  if (codeOf(error) === SQLITE_CORRUPT || codeOf(error) === SQLITE_NOTADB)
    return 'it is damaged: move it and its -wal and -shm away and start Outrigger again; the tasks in it are lost';
  return `${error instanceof Error ? error.message : String(error)}: look at its disk`;
}

function unavailable(message: string, isOutcomeUnknown: boolean): Failure {
  return { kind: 'unavailable', message, isOutcomeUnknown };
}

/** SQLite's primary result code. */
function codeOf(error: unknown): number {
  return ((error as { errcode?: number }).errcode ?? 0) & 0xff;
}
