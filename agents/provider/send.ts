/** Sends answers with the faults of a behaviour. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Behaviour } from './faults.ts';

/** One server-sent event of an answer. */
export interface StreamEvent {
  event?: string;
  data: string;
  /** Whether it carries a token of the answer. */
  isToken?: boolean;
}

const commentEveryMs = 100;

/** Sends a JSON body, or as much of it as the behaviour allows. Rejects when the caller disconnects. */
export async function sendJson(
  response: ServerResponse,
  body: object,
  behaviour: Behaviour,
  signal: AbortSignal,
): Promise<void> {
  const text = behaviour.malformed ? '{"choices": [{"message": ' : JSON.stringify(body);
  response.writeHead(200, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  });
  response.flushHeaders();
  if (behaviour.first_byte_ms) await sleep(behaviour.first_byte_ms, undefined, { signal });
  if (behaviour.stall_after_chunks !== undefined) await forEver(signal);
  if (behaviour.cut_after_chunks !== undefined) {
    response.write(text.slice(0, text.length / 2), () => response.destroy());
    return;
  }
  response.end(text);
}

/**
 * Sends server-sent events at the behaviour's pace, and no faster than the caller reads. Rejects when the caller
 * disconnects.
 *
 * @param sent called for each sent token
 */
export async function sendEvents(
  response: ServerResponse,
  events: Iterable<StreamEvent>,
  behaviour: Behaviour,
  signal: AbortSignal,
  sent: () => void,
): Promise<void> {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  response.flushHeaders();
  if (behaviour.first_byte_ms) await sleep(behaviour.first_byte_ms, undefined, { signal });
  while (behaviour.comments_only) {
    response.write(': waiting\n\n');
    await sleep(commentEveryMs, undefined, { signal });
  }
  let chunks = 0;
  for (const { event, data, isToken } of events) {
    if (chunks === behaviour.stall_after_chunks) await forEver(signal);
    if (chunks === behaviour.cut_after_chunks) {
      // In the next turn of the event loop, so that earlier writes reach the caller.
      setImmediate(() => response.destroy());
      return;
    }
    if (chunks === behaviour.end_after_chunks) break;
    if (behaviour.chunk_delay_ms && chunks > 0) await sleep(behaviour.chunk_delay_ms, undefined, { signal });
    const payload = behaviour.malformed ? data.slice(0, data.length / 2) : data;
    const flowing = response.write(`${event === undefined ? '' : `event: ${event}\n`}data: ${payload}\n\n`);
    chunks += 1;
    if (isToken) sent();
    if (!flowing) await once(response, 'drain', { signal });
  }
  response.end();
}

/** Rejects when the caller disconnects; never resolves. */
function forEver(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    if (signal.aborted) reject(signal.reason);
  });
}
