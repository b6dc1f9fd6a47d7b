/** Serves the event log: the latest events as JSON, or these and all further ones as server-sent events. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { EventLog, SidecarEvent } from '../telemetry/events.ts';
import { sendJson } from './http-server.ts';
import { wantsJson } from './wanted-format.ts';

/** How long a browser waits before it reconnects. */
const RETRY_MS = 2_000;
/** How often we send a comment, because proxies in between close silent connections. */
const HEARTBEAT_MS = 15_000;
/** A reader with more unread bytes does not read: we close its connection, and it may reconnect. */
const MAX_UNREAD_BYTES = 65_536;

/** Answers with the latest events as a JSON list, or with an endless stream; 503 when there are too many readers. */
export function answerEvents(log: EventLog, request: IncomingMessage, response: ServerResponse): void {
  if (wantsJson(request)) {
    sendJson(response, 200, log.recent());
    return;
  }
  const write = (text: string): boolean => {
    response.write(text);
    if (response.writableLength <= MAX_UNREAD_BYTES) return true;
    response.destroy();
    return false;
  };
  const unsubscribe = log.subscribe((event) => write(format(event)));
  if (unsubscribe === undefined) {
    sendJson(response, 503, { error: 'too many readers of events; close one of them' });
    return;
  }
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
  if (request.method === 'HEAD') {
    unsubscribe();
    response.end();
    return;
  }
  write(`retry: ${RETRY_MS}\n\n`);
  // A browser that reconnects names the last event it has received (HTML, "Server-sent events").
  const lastSeen = Number(request.headers['last-event-id']);
  for (const event of missed(log, lastSeen)) write(format(event));
  const heartbeat = setInterval(() => write(':\n\n'), HEARTBEAT_MS).unref();
  response.once('close', () => {
    clearInterval(heartbeat);
    unsubscribe();
  });
}

/** Returns the events after this id. An id from the future belongs to an earlier process: then all events are new. */
function missed(log: EventLog, lastSeenId: number): readonly SidecarEvent[] {
  const all = log.recent();
  const known = Number.isSafeInteger(lastSeenId) && lastSeenId <= (all.at(-1)?.id ?? 0);
  return known ? log.recent(lastSeenId) : all;
}

/** JSON has no line breaks, so one data line holds it. */
function format(event: SidecarEvent): string {
  return `id: ${event.id}\ndata: ${JSON.stringify(event)}\n\n`;
}
