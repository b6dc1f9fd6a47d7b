import { holdTime, releaseTime } from '../clock/held-time.ts';

/** Something that gathers output and hands it to its socket in one go. */
export interface Flushable {
  queued: boolean;
  flush(): void;
}

/**
 * All output that one event caused leaves at the end of that event, one write a connection. A flush by
 * setImmediate would add a turn of the event loop to every call at low rates; a write a frame would cost a
 * system call a frame at high ones.
 */
const dirty: Flushable[] = [];
let depth = 0;
let scheduled = false;

function flushAll(): void {
  scheduled = false;
  // A flush may make others dirty (a socket that ends); they are appended and the loop takes them too.
  for (let i = 0; i < dirty.length; i++) {
    const writer = dirty[i]!;
    writer.queued = false;
    writer.flush();
  }
  dirty.length = 0;
}

/**
 * Opens a batch: what is marked dirty from now on is flushed by the matching `endBatch`, and all of it happens at one time.
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

/** Outside a batch (a timer, a promise) the flush follows on the next tick. */
export function markDirty(writer: Flushable): void {
  if (writer.queued) return;
  writer.queued = true;
  dirty.push(writer);
  if (depth === 0 && !scheduled) {
    scheduled = true;
    process.nextTick(flushAll);
  }
}
