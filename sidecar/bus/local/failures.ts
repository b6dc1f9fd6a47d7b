/** Says what SQLite's errors mean for those whose requests failed. */
import { FencedError, LogUnavailableError } from '../log/log-errors.ts';
import type { Submitted } from '../log/task-log.ts';
import type { Failure, FromThread, Request } from './requests.ts';

const SQLITE_BUSY = 5;
const SQLITE_FULL = 13;
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;
/** SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH and SQLITE_RANGE. */
const OF_ONE_REQUEST: readonly number[] = [18, 19, 20, 25];

export const isBusy = (error: unknown): boolean => codeOf(error) === SQLITE_BUSY;

const isFull = (error: unknown): boolean => codeOf(error) === SQLITE_FULL;

/** The values of one request are wrong, and the file is not: SQLite refuses them, or Node can't pass them to it. */
function isOfRequest(error: unknown): boolean {
  const code = codeOf(error);
  return (
    OF_ONE_REQUEST.includes(code) ||
    (code === 0 && (error instanceof RangeError || error instanceof TypeError))
  );
}

/** A submit for which the disk has no room is refused; everything else fails. */
export function answerToFailure({ id, name }: Request, error: unknown, path: string): FromThread {
  const refused: Submitted = { outcome: 'refused', reason: 'disk_full' };
  if (name === 'submit' && isFull(error)) return { name: 'done', id, output: refused };
  return { name: 'failed', id, failure: failureOf(error, path) };
}

/** Nothing of a transaction that failed is stored; only where the disk fails while it stores, nobody knows. */
export function failureOf(error: unknown, path: string): Failure {
  if (error instanceof FencedError) return { kind: 'fenced', because: error.because };
  if (error instanceof LogUnavailableError) return unavailable(error.message, error.isOutcomeUnknown);
  if (isFull(error)) return unavailable(`the disk of the task file ${path} is full: make room on it`, false);
  if (isOfRequest(error)) return { kind: 'unstorable', message: messageOf(error) };
  const isUnknown = !isBusy(error) && !isDamage(error);
  return unavailable(`the task file ${path} can't be used: ${troubleOf(error)}`, isUnknown, isDamage(error));
}

/**
 * Why the file can't be used; undefined where only this request could not. A full disk still serves who reads, and values
 * that can't be stored say nothing of the file.
 */
export function troubleOf(error: unknown): string | undefined {
  if (isFull(error) || isOfRequest(error)) return undefined;
  if (isBusy(error))
    return 'another process has locked it: look for one that is stopped, or is not Outrigger';
  if (isDamage(error)) return DAMAGED;
  return `${messageOf(error)}: look at its disk`;
}

/** Does not end by itself. */
export const DAMAGED =
  'it is damaged: move it and its -wal and -shm away, and a new one is made within a second; the tasks in it are lost';

function isDamage(error: unknown): boolean {
  return codeOf(error) === SQLITE_CORRUPT || codeOf(error) === SQLITE_NOTADB;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function unavailable(message: string, isOutcomeUnknown: boolean, isFinal = false): Failure {
  return { kind: 'unavailable', message, isOutcomeUnknown, isFinal };
}

/** SQLite's primary result code. */
function codeOf(error: unknown): number {
  return ((error as { errcode?: number }).errcode ?? 0) & 0xff;
}
