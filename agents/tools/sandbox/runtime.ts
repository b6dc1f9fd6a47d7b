/** Recognizes a container runtime that is a sandbox itself, by what only its kernel shows. */
import { readFileSync } from 'node:fs';

/** `gvisor`, `kata`, or undefined. */
export function foreignRuntime(read: (path: string) => string = readOrNothing): string | undefined {
  // gVisor's own kernel gives itself this version, and its log begins so.
  if (/^Linux version 4\.4\.0 .*2016/.test(read('/proc/version'))) return 'gvisor';
  // Kata's guest gets its agent's settings from the command line of its kernel, and shares files under this name.
  if (/\bagent\.log|\bsystemd\.unit=kata-containers/.test(read('/proc/cmdline'))) return 'kata';
  if (/\bkataShared\b/.test(read('/proc/self/mountinfo'))) return 'kata';
  return undefined;
}

function readOrNothing(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
