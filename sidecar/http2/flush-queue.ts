/** Collects the writers that have output, and flushes each once a turn. */
import { holdTime, releaseTime } from '../clock/held-time.ts';

/** Gathers output, and writes it to its socket at once. */
export interface Flushable {
  queued: boolean;
  flush(): void;
}

/**
 * The writers with output of the present event. At its end each connection writes once. A flush by setImmediate would delay
 * every call by a turn of the event loop at low rates; a write for each frame would cost a system call each at high rates.
 */
const dirty: Flushable[] = [];
let depth = 0;
let scheduled = false;

function flushAll(): void {
  scheduled = false;
  // A flush may make further writers dirty (a socket that ends); they are appended, and the loop takes them, too.
  for (let i = 0; i < dirty.length; i++) {
    const writer = dirty[i]!;
    writer.queued = false;
    writer.flush();
  }
  dirty.length = 0;
}

/**
 * Begins a batch: the matching `endBatch` flushes the writers that were marked dirty meanwhile, and the held time stands still.
 * Batches nest.
 */
export function beginBatch(): void {
  if (depth++ === 0) holdTime();
}

export function endBatch(): void {
  if (--depth > 0) return;
  releaseTime();
  if (dirty.length > 0) flushAll();
}

/** Marks a writer for a flush. Outside a batch (a timer, a promise) the flush follows on the next tick. */
export function markDirty(writer: Flushable): void {
  if (writer.queued) return;
  writer.queued = true;
  dirty.push(writer);
  if (depth === 0 && !scheduled) {
    scheduled = true;
    process.nextTick(flushAll);
  }
}
