// A process that fills the disk of a task file, on which little is left:
//
//     node full-disk-process.ts FILE
//
// It ends with 0 when all that was acknowledged is there, and the log works again once it has room.
import { rmSync, writeFileSync } from 'node:fs';
import { LogUnavailableError } from '../../log/log-errors.ts';
import { answer, errorOf, JOIN, keyOf, newTask, SETTINGS, takeOne } from '../../log/test-support/logs.ts';
import { openLocalTaskLog } from '../local-task-log.ts';

const [file = ''] = process.argv.slice(2);
const ballast = `${file}-ballast`;
const log = await openLocalTaskLog(file, { ...SETTINGS, leaseMs: 60_000 });
writeFileSync(ballast, Buffer.alloc(1 << 20, 'x'));
const stored: string[] = [];
const payload = Buffer.alloc(20_000, 'x');
for (let count = 0; ; count++) {
  if (count === 10_000) throw new Error('the disk is never full');
  const submitted = await log.submit(newTask(`a${count}`, { payload, caller: `${count}` }), JOIN);
  if (submitted.outcome !== 'refused') stored.push(keyOf(`a${count}`));
  else if (submitted.reason === 'disk_full') break;
  else throw new Error(submitted.reason);
}
const hasAll = async (): Promise<boolean> => {
  for (const key of stored) if ((await log.get(key)) === undefined) return false;
  return true;
};
console.log(`${stored.length} stored, all there: ${await hasAll()}, connected: ${log.connected}`);
// A result has no other place: who could not store it hears so, and may try again.
rmSync(ballast);
const lease = await takeOne(log);
const big = { status: 0, payload: Buffer.alloc(8 << 20, 'y') };
const error = await errorOf(lease.settle(big));
console.log(`settle: ${error instanceof LogUnavailableError && !error.isOutcomeUnknown} ${String(error)}`);
await lease.settle(answer('small'));
const record = await log.get(lease.record.key);
console.log(`settled: ${String(record?.result?.short)}, all there: ${await hasAll()}`);
await log.close();
