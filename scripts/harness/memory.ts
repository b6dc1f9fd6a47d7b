// Reads a process's memory from /proc (Linux).
import { readFileSync } from 'node:fs';

/** Resident memory of a process in bytes. Throws where /proc does not show it. */
export function residentBytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  if (kib === undefined) throw new Error(`process ${pid} has no resident memory; it has ended`);
  return Number(kib) * 1024;
}
