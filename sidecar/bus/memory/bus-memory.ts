/** The memory of the process for what the bus reads and stores: one owner of its limit, for all callers. */
import { processBytes } from '../../node/process-memory.ts';
import { SharedMemory } from '../../policy/shared-memory.ts';

/** The share of the process's memory, and the most; the rest is for everything else. */
const PROCESS_SHARE = 0.125;
const MOST_BYTES = 134_217_728;

/** @param bytes the bound of the process's container, or the machine's memory */
function busMemoryFor(bytes: number): number {
  return Math.min(MOST_BYTES, Math.floor(bytes * PROCESS_SHARE));
}

/** Parts of the whole. */
const SHARES = { requests: 1 / 2, answers: 1 / 4, collected: 1 / 4 };

/**
 * Who waits for an agent's answer may hold a request meanwhile, and who reads one may be slow, so that the three have parts of
 * their own: none waits for what only another can end.
 */
export class BusMemory {
  readonly requests: SharedMemory;
  /** Answers, and chunks, that are read. */
  readonly answers: SharedMemory;
  /** Answers of agents, until the log has them. */
  readonly collected: SharedMemory;

  /** @param maxBytes `bus.max_memory_bytes`; 0 for a share of the process's memory */
  constructor(maxBytes = 0, clock: () => number = () => performance.now()) {
    this.requests = new SharedMemory(0, clock);
    this.answers = new SharedMemory(0, clock);
    this.collected = new SharedMemory(0, clock);
    this.setMax(maxBytes);
  }

  setMax(maxBytes: number): void {
    const bytes = maxBytes > 0 ? maxBytes : busMemoryFor(processBytes());
    for (const part of ['requests', 'answers', 'collected'] as const) this[part].setMax(bytes * SHARES[part]);
  }

  get bytes(): number {
    return this.requests.bytes + this.answers.bytes + this.collected.bytes;
  }
}
