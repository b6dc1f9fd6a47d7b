// How each failure ends for tasks of a bus in a file: nothing that was accepted is lost, every task has one result, and only
// what was in flight at the place of the fault runs twice.
import t from 'tap';
import { endWell } from './support/bus-faults.ts';
import { logFile } from './support/task-consumer.ts';

t.setTimeout(280_000);
// Most of them wait most of the time.
t.jobs = 3;

endWell(t, async (t) => `file:${logFile(t)}`);
