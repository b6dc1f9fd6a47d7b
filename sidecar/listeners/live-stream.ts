/**
 * Serves the state that the dashboard shows: as JSON once, for whoever asks for it so, or as server-sent events once a second:
 *
 *     event: hello      which run of the sidecar this is
 *     event: snapshot   how everything stands now
 *     event: events     what happened since, as a list; at first what happened lately
 *     event: calls      the calls that went wrong since
 *
 * One timer for all readers, none without one. Nothing is kept for a reader that does not keep up: it misses
 * snapshots, and is dropped when it has not read for long.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { sendJson } from './http-server.ts';
import { wantsJson } from './wanted-format.ts';

export interface LiveSource {
  /** Another one for each run of the sidecar, by which a page knows that it was restarted. */
  readonly instance: string;
  snapshot(): object;
  /** What came after the one with this id, oldest first. */
  events(afterId: number): readonly Numbered[];
  calls(afterId: number): readonly Numbered[];
}

interface Numbered {
  readonly id: number;
}

const EVERY_MS = 1_000;
const RETRY_MS = 1_000;
const MAX_READERS = 16;
/** A reader that has left this many snapshots unread is gone or stopped. */
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

  /** Answers with all of it as JSON, or with an endless stream; 503 when there are too many readers. */
  handle(request: IncomingMessage, response: ServerResponse): void {
    if (wantsJson(request)) {
      const { source } = this;
      const snapshot = source.snapshot();
      const lately = { events: source.events(0), calls: source.calls(0) };
      sendJson(response, 200, { instance: source.instance, ...snapshot, ...lately });
      return;
    }
    if (this.readers.size >= MAX_READERS) {
      sendJson(response, 503, { error: 'too many dashboards are open; close another one' });
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
