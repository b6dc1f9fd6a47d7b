/**
 * Serves the state of the dashboard: once as JSON on request, or as server-sent events once a second:
 *
 *     event: hello      the id of this run of the sidecar
 *     event: snapshot   the present state of everything
 *     event: events     the events since the last one, as a list; first the latest events
 *     event: calls      the calls that failed since
 *
 * One timer serves all readers, and runs only while there are some. Nothing is buffered for a slow reader: it misses
 * snapshots, and its connection is closed when it has not read for long.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { sendJson } from './http-server.ts';
import { wantsJson } from './wanted-format.ts';

export interface LiveSource {
  /** Unique for each run of the sidecar, so that a page detects a restart. */
  readonly instance: string;
  snapshot(): object;
  /** Returns the events after the one with this id, oldest first. */
  events(afterId: number): readonly Numbered[];
  calls(afterId: number): readonly Numbered[];
}

interface Numbered {
  readonly id: number;
}

const EVERY_MS = 1_000;
const RETRY_MS = 1_000;
const MAX_READERS = 16;
/** A reader that has left this many snapshots unread is disconnected or stopped. */
const MAX_MISSED = 30;

interface Reader {
  readonly response: ServerResponse;
  lastEventId: number;
  lastCallId: number;
  missed: number;
}

export class LiveStream {
  private readonly source: LiveSource;
  private readonly onError: (error: unknown) => void;
  private readonly readers = new Set<Reader>();
  private readonly everyMs: number;
  private timer: NodeJS.Timeout | undefined = undefined;

  constructor(source: LiveSource, onError: (error: unknown) => void, { everyMs = EVERY_MS } = {}) {
    this.everyMs = everyMs;
    this.source = source;
    this.onError = onError;
  }

  get readerCount(): number {
    return this.readers.size;
  }

  /** Answers with everything as JSON, or with an endless stream; 503 when there are too many readers. */
  handle(request: IncomingMessage, response: ServerResponse): void {
    if (wantsJson(request)) {
      const { source } = this;
      const snapshot = source.snapshot();
      const lately = { events: source.events(0), calls: source.calls(0) };
      sendJson(response, 200, { instance: source.instance, ...snapshot, ...lately });
      return;
    }
    if (this.readers.size >= MAX_READERS) {
      sendJson(response, 503, { error: 'too many dashboards are open; close one of them' });
      return;
    }
    const snapshot = this.format();
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
    if (request.method === 'HEAD') {
      response.end();
      return;
    }
    const reader: Reader = { response, lastEventId: 0, lastCallId: 0, missed: 0 };
    this.readers.add(reader);
    response.once('close', () => this.remove(reader));
    response.write(`retry: ${RETRY_MS}\n\n${eventOf('hello', { instance: this.source.instance })}`);
    this.send(reader, snapshot);
    this.timer ??= setInterval(() => this.tick(), this.everyMs).unref();
  }

  private format(): string {
    return eventOf('snapshot', this.source.snapshot());
  }

  private tick(): void {
    let snapshot: string;
    try {
      snapshot = this.format();
    } catch (error) {
      this.onError(error);
      for (const { response } of this.readers) response.destroy();
      return;
    }
    for (const reader of this.readers) this.send(reader, snapshot);
  }

  private send(reader: Reader, snapshot: string): void {
    const { response } = reader;
    if (response.writableNeedDrain) {
      if (++reader.missed > MAX_MISSED) response.destroy();
      return;
    }
    reader.missed = 0;
    const events = this.source.events(reader.lastEventId);
    const calls = this.source.calls(reader.lastCallId);
    reader.lastEventId = events.at(-1)?.id ?? reader.lastEventId;
    reader.lastCallId = calls.at(-1)?.id ?? reader.lastCallId;
    response.write(
      (events.length === 0 ? '' : eventOf('events', events)) +
        (calls.length === 0 ? '' : eventOf('calls', calls)) +
        snapshot,
    );
  }

  private remove(reader: Reader): void {
    this.readers.delete(reader);
    if (this.readers.size > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }
}

/** JSON has no line breaks, so one data line holds it. */
function eventOf(name: string, value: object): string {
  return `event: ${name}\ndata: ${JSON.stringify(value)}\n\n`;
}
