/** Carries out one request on the file, within a transaction. */

import type { TaskKey, TaskRecord } from '../log/task-record.ts';
import { attend, leave } from './callers.ts';
import type { FileWaits } from './file-waits.ts';
import { announce, consumers, get, list, recordWithResult, status } from './readings.ts';
import type { Held, OperationName, Request } from './requests.ts';
import { answerPart } from './results.ts';
import { begin, bury, extend, giveBack, lose, request, settle, write } from './runs.ts';
import { currentTask, dropDead, retryDead, submit } from './submissions.ts';
import type { TaskFile } from './task-file.ts';
import { end, taskOf } from './task-steps.ts';
import { eventsAfter } from './watched-events.ts';

const READING: ReadonlySet<OperationName> = new Set([
  'get',
  'answer',
  'request',
  'watch',
  'list',
  'status',
  'consumers',
  'hold',
]);

/** Whether an operation changes nothing in the file. */
export function isReading(name: OperationName): boolean {
  return READING.has(name);
}

/** Returns the operation's output, or `waits` when it is answered later. */
export function perform(file: TaskFile, asked: Request, waits: FileWaits): unknown {
  const { id, name, input } = asked;
  switch (name) {
    case 'submit':
      return submit(file, input.task, input.options);
    case 'take':
      waits.waitForTask(id, input);
      return 'waits';
    case 'watch': {
      const watched = eventsAfter(file, input);
      if (watched === undefined) waits.waitForEvents(id, input);
      return watched ?? 'waits';
    }
    case 'request':
      return request(file, input.held);
    case 'begin':
      return begin(file, input.held);
    case 'extend':
      return extend(file, input.held);
    case 'write':
      return write(file, input.held, input.firstSequence, input.count, input.payload);
    case 'settle':
      return settle(file, input.held, input.status, input.payload);
    case 'giveBack':
      return giveBack(file, input.held);
    case 'lose':
      return lose(file, input.held, input.cause);
    case 'bury':
      return bury(file, input.held, input.cause);
    case 'hold':
      return waits.hold(input.held);
    case 'get':
      return get(file, input.key);
    case 'answer':
      return answerPart(file, taskOf(file, input.key), input.generation, input.part);
    case 'cancel':
      return cancel(file, input.key, input.cause);
    case 'leave':
      return leave(file, input.key, input.waiter, input.leaving);
    case 'attend':
      return attend(file, input.sidecar);
    case 'list':
      return list(file, input);
    case 'retryDead':
      return retryDead(file, input.key);
    case 'dropDead':
      return dropDead(file, input.key);
    case 'status':
      return status(file);
    case 'announce':
      return announce(file, input.consumer);
    case 'consumers':
      return consumers(file, input.agentType);
  }
}

/** The run that the process no longer holds once this request has succeeded. */
export function heldUntil({ name, input }: Request): Held | undefined {
  return name === 'settle' || name === 'giveBack' || name === 'lose' || name === 'bury'
    ? input.held
    : undefined;
}

export function cancel(file: TaskFile, key: TaskKey, cause: string): TaskRecord | undefined {
  const row = currentTask(file, key);
  if (row === undefined) return undefined;
  if (row.state !== 'queued' && row.state !== 'running') return recordWithResult(file, row);
  return recordWithResult(file, end(file, row, 'cancelled', { cause }));
}
