/** Keeps the beginning of a request's body and of its answer for the log, where `log_bodies` is on. */
import { type Body, viewsOf } from '../shared/body.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import type { Sink } from './sink.ts';

/** How much of a body the log shows. */
const MAX_LOGGED_BYTES = 65_536;

/** Returns the beginning of a request's body, for the log. */
export function loggedText(body: Body): string {
  return Buffer.concat(viewsOf(body, 0, MAX_LOGGED_BYTES)).toString('utf8');
}

/** Passes an answer on, and keeps its beginning for the log. */
export class LoggedSink implements Sink {
  private readonly sink: Sink;
  private readonly log: (body: string) => void;
  private readonly kept: Buffer[] = [];
  private keptBytes = 0;

  constructor(sink: Sink, log: (body: string) => void) {
    this.sink = sink;
    this.log = log;
  }

  get onDrain(): () => void {
    return this.sink.onDrain;
  }

  set onDrain(listener: () => void) {
    this.sink.onDrain = listener;
  }

  head(status: number, headers: HttpHeaders): void {
    this.sink.head(status, headers);
  }

  flushHead(): void {
    this.sink.flushHead();
  }

  write(bytes: Buffer): boolean {
    this.keep(bytes);
    return this.sink.write(bytes);
  }

  end(): void {
    this.sink.end();
    this.writeHeld();
  }

  breakOff(last: Buffer | undefined): void {
    if (last !== undefined) this.keep(last);
    this.sink.breakOff(last);
    this.writeHeld();
  }

  private keep(bytes: Buffer): void {
    const room = MAX_LOGGED_BYTES - this.keptBytes;
    if (room <= 0) return;
    const part = bytes.subarray(0, room);
    this.keptBytes += part.length;
    this.kept.push(part);
  }

  private writeHeld(): void {
    this.log(Buffer.concat(this.kept).toString('utf8'));
  }
}
