/** The limits of one run: of all its processes together. */

/** What can end a run, by the name that its caller reads. */
export type LimitName = 'cpu' | 'wall' | 'memory' | 'processes' | 'output' | 'files';

export interface RunLimits {
  cpuMs: number;
  wallMs: number;
  /** Bytes. */
  memory: number;
  processes: number;
  /** Bytes of standard output and error together. */
  output: number;
  /** Bytes of the workspace, and of each of its disks in memory. */
  files: number;
}

const mebibyte = 1024 * 1024;

export const usualLimits: RunLimits = {
  cpuMs: 10_000,
  wallMs: 30_000,
  memory: 256 * mebibyte,
  processes: 32,
  output: mebibyte,
  files: 16 * mebibyte,
};

/** The limit in words: `memory (256 MiB)`. */
export function describeLimit(name: LimitName, limits: RunLimits): string {
  switch (name) {
    case 'cpu':
      return `CPU time (${limits.cpuMs / 1000} s)`;
    case 'wall':
      return `time (${limits.wallMs / 1000} s)`;
    case 'processes':
      return `processes (${limits.processes})`;
    default:
      return `${name} (${sizeOf(limits[name])})`;
  }
}

function sizeOf(bytes: number): string {
  return bytes % mebibyte === 0 ? `${bytes / mebibyte} MiB` : `${bytes} bytes`;
}
