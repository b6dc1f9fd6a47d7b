/** Says how much memory the bodies of requests to models may take; `policy/shared-memory.ts` shares it. */
import { processBytes } from '../../node/process-memory.ts';
import type { LlmLimitSettings } from '../shared/llm-settings.ts';

/** The share of the process's memory; the rest is for everything else. */
const PROCESS_SHARE = 0.25;
/** Everything else never needs more: the program, answers, and bodies that wait to be collected. */
const REST_BYTES = 314_572_800;
const MOST_BYTES = 268_435_456;

/**
 * Returns what bodies may take of a process with this much memory, in bytes: a quarter, or all above 300 MiB, and 256 MiB at most.
 *
 * @param bytes the bound of its container, or the machine's memory
 */
export function bodyMemoryFor(bytes: number): number {
  return Math.min(MOST_BYTES, Math.max(Math.floor(bytes * PROCESS_SHARE), bytes - REST_BYTES));
}

/** Returns the bound of all requests' bodies, in bytes; at least that of one. */
export function bodyMemoryOf({ maxBodyMemoryBytes, maxRequestBytes }: LlmLimitSettings): number {
  if (maxBodyMemoryBytes > 0) return maxBodyMemoryBytes;
  return Math.max(bodyMemoryFor(processBytes()), maxRequestBytes);
}
