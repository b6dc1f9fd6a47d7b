/** Waits for a line in the log of a process. */
import type { Test } from 'tap';
import type { TestProcess } from '../../scripts/harness/process.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';

/** A line that a process writes at an event comes through a pipe, so it may come after what the event has caused. */
export async function untilLogged(
  t: Pick<Test, 'match'>,
  { logs }: Pick<TestProcess, 'logs'>,
  pattern: RegExp,
): Promise<void> {
  await waitUntil(`the log has ${pattern}`, () => pattern.test(logs())).catch(() => {});
  t.match(logs(), pattern);
}
