// How each failure ends for tasks of a bus in a file: nothing that was accepted is lost, every task has one result, and only
// what was in flight at the place of the fault runs twice.
import t from 'tap';
import { crashesBehindResult, endWell } from './support/bus-faults.ts';
import { logFile } from './support/task-consumer.ts';

t.setTimeout(280_000);
// Most of them wait most of the time.
t.jobs = 3;

endWell(t, async (t) => `file:${logFile(t)}`);

t.test('a crash between result and acknowledgement loses nothing, and nothing runs twice', async (t) => {
  // In a file both are one step: the kill comes as soon as another process sees it.
  const url = `file:${logFile(t)}`;
  await crashesBehindResult(t, { url, doomed: url }, (submitter, key) => submitter.watched(key));
});
