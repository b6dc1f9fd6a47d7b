/** Lets the offline provider answer one question slowly, so that somebody can break the replica that answers it. */
import type { LocalSystem } from './system.ts';

/** Part of the question that the page submits (`gateway/page/bus.js`). */
const longTask = 'a long story about a message bus';
/** With some two hundred chunks, an answer takes about fifteen seconds. */
const chunkDelayMs = 70;

export async function slowLongTask({ model }: LocalSystem): Promise<void> {
  if (model.kind !== 'offline') return;
  const rule = { scope: { input: longTask }, behaviour: { chunk_delay_ms: chunkDelayMs } };
  await fetch(`http://127.0.0.1:${model.port}/control/behaviour`, {
    method: 'POST',
    body: JSON.stringify(rule),
  });
}
