// A submit ends within its caller's time, and says truly whether the task may be stored.
import { join } from 'node:path';
import t from 'tap';
import { openLocalTaskLog } from '../local/local-task-log.ts';
import { ANEW, newTask, SETTINGS } from '../log/test-support/logs.ts';
import { StandingLog } from '../standing-log.ts';
import { submitInTime } from './submission.ts';

t.test(
  'a caller whose time ends while the bus is opened for the first time hears that nothing was stored',
  async (t) => {
    const log = new StandingLog();
    const opens = Promise.withResolvers<void>();
    const file = join(t.testdir(), 'tasks.db');
    log.use(async () => {
      await opens.promise;
      return openLocalTaskLog(file, SETTINGS);
    });
    t.teardown(() => log.close());
    const endMs = performance.now() + 300;
    const submission = await submitInTime(log, newTask('late'), ANEW, () => endMs - performance.now());
    t.match(submission, { refusal: { reason: 'bus_unavailable' } });
    opens.resolve();
    const stored = await submitInTime(log, newTask('in time'), ANEW, () => Number.POSITIVE_INFINITY);
    t.match(stored, { outcome: 'stored' });
    t.equal((await log.list({ limit: 10 })).records.length, 1, 'and it is not stored later');
  },
);
