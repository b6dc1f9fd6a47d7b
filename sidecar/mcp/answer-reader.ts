/** Reads the answer of one attempt as it comes: a stream of events, one JSON text, or anything else as bytes. */
import type { IncomingHttpHeaders } from 'node:http';
import { EventScanner } from '../llm/answer/event-scanner.ts';
import { HeldBytes } from '../llm/answer/held-answers.ts';
import type { EventSink } from '../llm/answer/unfinished-event.ts';
import { readEvent, type ServerEvent } from './message/events.ts';
import { type Json, parseJson } from './message/json-rpc.ts';

/** Receives the events of a stream. */
export interface EventTaker {
  /** @param raw the event as it came */
  onEvent(event: ServerEvent, raw: Buffer): void;
  /** An event is larger than the egress reads. */
  onTooLarge(): void;
}

export type AnswerKind = 'events' | 'json' | 'other';

export class AnswerReader implements EventSink {
  readonly kind: AnswerKind;
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  private readonly taker: EventTaker;
  private readonly maxBytes: number;
  private readonly scanner: EventScanner | undefined;
  private readonly memory = new HeldBytes();
  private readonly chunks: Buffer[] = [];
  private bytes = 0;

  constructor(status: number, headers: IncomingHttpHeaders, maxBytes: number, taker: EventTaker) {
    this.status = status;
    this.headers = headers;
    this.maxBytes = maxBytes;
    this.taker = taker;
    const type = headers['content-type'] ?? '';
    const isPlain = (headers['content-encoding'] ?? 'identity') === 'identity';
    this.kind = !isPlain
      ? 'other'
      : type.startsWith('text/event-stream')
        ? 'events'
        : /^application\/(?:json|[^;]*\+json)\b/.test(type)
          ? 'json'
          : 'other';
    this.scanner = this.kind === 'events' ? new EventScanner(maxBytes, this.memory) : undefined;
  }

  get isSuccess(): boolean {
    return this.status >= 200 && this.status < 300;
  }

  /** Returns false when there is no room for the answer. */
  push(chunk: Buffer): boolean {
    if (this.scanner !== undefined) {
      this.scanner.push(chunk, this);
      return true;
    }
    this.bytes += chunk.length;
    if (this.bytes > this.maxBytes || !this.memory.add(chunk.length)) return false;
    this.chunks.push(chunk);
    return true;
  }

  /** The bytes of an answer without events. */
  get body(): Buffer {
    return this.chunks.length === 1 ? this.chunks[0]! : Buffer.concat(this.chunks);
  }

  json(): Json | undefined {
    return this.kind === 'json' ? parseJson(this.body.toString('utf8')) : undefined;
  }

  /** Gives the memory of what it holds back. */
  end(): void {
    this.memory.clear();
  }

  onEvent(buffer: Buffer, start: number, end: number): void {
    this.taker.onEvent(readEvent(buffer.toString('utf8', start, end)), buffer.subarray(start, end));
  }

  onPart(): void {
    this.taker.onTooLarge();
  }
}
