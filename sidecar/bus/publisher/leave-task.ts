/** Tells the log that a caller waits no longer for a task. */
import { setTimeout as sleep } from 'node:timers/promises';
import { LogUnavailableError } from '../log/log-errors.ts';
import type { TaskKey } from '../log/task-record.ts';
import type { Leaving } from '../log/wanted.ts';
import type { Publishing } from './publishing.ts';

/** While the log is away, it is told again so often. */
const AGAIN_MS = 200;
const TRIES = 50;

/** Never rejects. */
export async function leaveTask(
  publishing: Pick<Publishing, 'log' | 'onDefect'>,
  key: TaskKey,
  waiter: string,
  leaving: Leaving,
): Promise<void> {
  for (let tries = 0; tries < TRIES; tries++) {
    try {
      await publishing.log.leave(key, waiter, leaving);
      return;
    } catch (error) {
      if (!(error instanceof LogUnavailableError)) {
        publishing.onDefect(error);
        return;
      }
    }
    await sleep(AGAIN_MS);
  }
}
