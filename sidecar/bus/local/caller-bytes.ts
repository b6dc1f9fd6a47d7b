/** Counts what the requests of each caller take in the file: those of tasks that wait or run, and of dead ones. */
import { TASK_BYTES } from '../log/task-log-settings.ts';
import type { TaskFile } from './task-file.ts';

export function callerBytes(file: TaskFile, caller: string): number {
  return file.get<{ bytes: number }>('SELECT bytes FROM caller_bytes WHERE caller = ?', caller)?.bytes ?? 0;
}

export function addRequest(file: TaskFile, caller: string, requestBytes: number): void {
  file.addRequestBytes(requestBytes);
  file.run(
    'INSERT INTO caller_bytes VALUES (?1, ?2) ON CONFLICT DO UPDATE SET bytes = bytes + ?2',
    caller,
    requestBytes + TASK_BYTES,
  );
}

export function removeRequest(file: TaskFile, caller: string, requestBytes: number): void {
  file.addRequestBytes(-requestBytes);
  const left = file.get<{ bytes: number }>(
    'UPDATE caller_bytes SET bytes = bytes - ? WHERE caller = ? RETURNING bytes',
    requestBytes + TASK_BYTES,
    caller,
  );
  if (left?.bytes === 0) file.run('DELETE FROM caller_bytes WHERE caller = ?', caller);
}
