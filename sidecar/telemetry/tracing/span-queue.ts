/** Queues ended spans within fixed bounds, and sends them to the collector in batches. */
import { type Backoff, backoffMs } from '../../clock/backoff.ts';
import type { Span, SpanEncoder } from './span.ts';

/** The bounds of OpenTelemetry's batching processor (specification, "Batch Span Processor": `OTEL_BSP_*`). */
export interface SpanQueueSettings {
  /** Spans that may wait; the queue drops further ones. */
  readonly maxQueueSize: number;
  /** Spans in one request. */
  readonly maxBatchSize: number;
  /** The longest time that a span waits for its batch to fill, in milliseconds. */
  readonly scheduleDelayMs: number;
  /** The longest time for one request with its retries, in milliseconds. */
  readonly exportTimeoutMs: number;
}

export const DEFAULT_QUEUE: SpanQueueSettings = {
  maxQueueSize: 2048,
  maxBatchSize: 512,
  scheduleDelayMs: 5_000,
  exportTimeoutMs: 30_000,
};

/** The bound on the waiting spans' bytes, whatever their number. */
export const MAX_QUEUE_BYTES = 16 * 1024 * 1024;

export type ExportResult =
  /** `rejected` is the number of spans that the collector reports as not taken. */
  | { readonly ok: true; readonly rejected: number }
  | {
      readonly ok: false;
      readonly error: string;
      /** Set for a temporary failure: send the batch again after this time; 0 where the collector named none. */
      readonly retry?: { readonly afterMs: number } | undefined;
    };

/** Applies where a collector names no time (OTLP specification: "exponential backoff with random jitter"). */
const BACKOFF: Backoff = { baseMs: 1_000, multiplier: 1.5, maxMs: 5_000 };
/** After this many tries the queue drops a batch. */
const MAX_TRIES = 5;
/** The longest pause that we grant a collector. */
const MAX_PAUSE_MS = 3_600_000;
/** A pause of at least this length is logged. */
const LONG_PAUSE_MS = 5_000;

/** Sends one body. It calls `done` once, and never throws. */
export interface SpanExporter {
  send(body: Uint8Array, done: (result: ExportResult) => void): void;
}

/** Counts of spans by outcome, for metrics. */
export class SpanCounts {
  exported = 0;
  /** The queue was full. */
  droppedQueueFull = 0;
  /** The collector was unreachable, did not answer in time, or refused the request. */
  failed = 0;
  /** The collector took the request but not all of its spans. */
  rejected = 0;
}

/** Notified when the collector's state changes, not of each failure. */
export interface SpanQueueListener {
  onExportFailing(error: string): void;
  onExportWorking(): void;
}

interface Batch {
  readonly body: Uint8Array;
  readonly spans: number;
  tries: number;
  /** The time of the first try, by `performance.now()`. */
  startedAtMs: number;
}

/**
 * Holds spans until a collector takes them, within its bounds.
 *
 *     add ──▶ open batch ──full, or its time is over──▶ waiting batches ──one at a time──▶ collector
 *      └── the queue is full: dropped, and counted
 *
 * The queue sends a batch again that a collector can't take now, and no other batch before it: after the pause that the
 * collector names, or a back-off. One request is in flight at a time, so a slow collector fills the queue and not the
 * memory.
 */
export class SpanQueue {
  readonly counts = new SpanCounts();
  private readonly encoder: SpanEncoder;
  private readonly exporter: SpanExporter;
  private readonly settings: SpanQueueSettings;
  private readonly listener: SpanQueueListener;
  private readonly waiting: Batch[] = [];
  private waitingSpans = 0;
  private waitingBytes = 0;
  private sending = false;
  /** Spans of the request in flight. */
  private sendingSpans = 0;
  private failing = false;
  /** The queue sends nothing until this timer fires. */
  private pause: NodeJS.Timeout | undefined = undefined;
  private pauseEndMs = 0;
  private timer: NodeJS.Timeout | undefined = undefined;
  private closed = false;
  private whenIdle: (() => void) | undefined = undefined;

  constructor(
    encoder: SpanEncoder,
    exporter: SpanExporter,
    settings: SpanQueueSettings,
    listener: SpanQueueListener,
  ) {
    this.encoder = encoder;
    this.exporter = exporter;
    this.settings = settings;
    this.listener = listener;
  }

  /** Spans that no collector has taken yet, including those of the request in flight. */
  get size(): number {
    return this.waitingSpans + this.sendingSpans + this.encoder.count;
  }

  /** Takes or drops an ended span. Never waits, never throws. */
  add(span: Span): void {
    const { encoder, settings } = this;
    if (
      this.closed ||
      this.waitingSpans + encoder.count >= settings.maxQueueSize ||
      this.waitingBytes + encoder.bytes >= MAX_QUEUE_BYTES
    ) {
      this.counts.droppedQueueFull++;
      return;
    }
    encoder.add(span);
    if (encoder.count >= settings.maxBatchSize) {
      this.seal();
      this.sendNext();
    } else if (this.timer === undefined) {
      this.timer = setTimeout(this.onDelay, settings.scheduleDelayMs);
      this.timer.unref();
    }
  }

  private readonly onDelay = (): void => {
    this.timer = undefined;
    this.seal();
    this.sendNext();
  };

  private seal(): void {
    const { encoder } = this;
    if (encoder.count === 0) return;
    const spans = encoder.count;
    const body = encoder.take();
    this.waiting.push({ body, spans, tries: 0, startedAtMs: 0 });
    this.waitingSpans += spans;
    this.waitingBytes += body.length;
  }

  private sendNext(): void {
    if (this.sending || this.pause !== undefined) return;
    const batch = this.waiting.shift();
    if (batch === undefined) {
      this.whenIdle?.();
      return;
    }
    this.waitingSpans -= batch.spans;
    this.waitingBytes -= batch.body.length;
    this.sending = true;
    this.sendingSpans = batch.spans;
    if (batch.tries++ === 0) batch.startedAtMs = performance.now();
    let over = false;
    let late = false;
    const end = (result: ExportResult): void => {
      const again = !over && !late && !result.ok && this.holds(batch, result);
      // A request that timed out may still use its body.
      if (!late && !again) this.encoder.recycle(batch.body);
      if (over) return;
      over = true;
      clearTimeout(limit);
      this.sending = false;
      this.sendingSpans = 0;
      if (!again) this.count(batch.spans, result);
      this.sendNext();
    };
    const limit = setTimeout(() => {
      late = true;
      end({ ok: false, error: `no answer within ${this.settings.exportTimeoutMs} ms` });
    }, this.settings.exportTimeoutMs);
    limit.unref();
    this.exporter.send(batch.body, end);
  }

  /** Keeps the failed batch for another try, and all others behind it, if the failure is temporary and time remains. */
  private holds(batch: Batch, { error, retry }: ExportResult & { ok: false }): boolean {
    if (retry === undefined) return false;
    const asked = retry.afterMs > 0;
    const pauseMs = asked
      ? Math.min(retry.afterMs, MAX_PAUSE_MS)
      : backoffMs(BACKOFF, batch.tries, Math.random());
    const passedMs = performance.now() - batch.startedAtMs;
    const again = asked ? batch.tries < MAX_TRIES : passedMs + pauseMs < this.settings.exportTimeoutMs;
    if (!asked && !again) return false;
    this.pauseEndMs = performance.now() + pauseMs;
    this.pause = setTimeout(() => {
      this.pause = undefined;
      this.sendNext();
    }, pauseMs).unref();
    if (!again) return false;
    this.waiting.unshift(batch);
    this.waitingSpans += batch.spans;
    this.waitingBytes += batch.body.length;
    if (asked && pauseMs >= LONG_PAUSE_MS && !this.failing) {
      this.listener.onExportFailing(`${error} and asks for a pause of ${Math.round(pauseMs / 1000)} s`);
      this.failing = true;
    }
    return true;
  }

  private count(spans: number, result: ExportResult): void {
    const { counts, listener } = this;
    if (!result.ok) {
      counts.failed += spans;
      if (!this.failing) listener.onExportFailing(result.error);
      this.failing = true;
      return;
    }
    const rejected = Math.min(spans, Math.max(0, result.rejected));
    counts.rejected += rejected;
    counts.exported += spans - rejected;
    if (rejected > 0) {
      if (!this.failing) listener.onExportFailing(`the collector rejected ${rejected} of ${spans} spans`);
      this.failing = true;
    } else {
      if (this.failing) listener.onExportWorking();
      this.failing = false;
    }
  }

  /** Sends the waiting spans and takes no more; resolves when they are sent, and after `limitMs` at the latest. */
  async close(limitMs: number): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.timer);
    this.seal();
    if (!this.sending && this.waiting.length === 0) return;
    // If the collector asks for a pause beyond the limit, we send nothing more.
    const paused = this.pause !== undefined && this.pauseEndMs > performance.now() + limitMs;
    if (!paused) await this.untilIdle(limitMs);
    clearTimeout(this.pause);
    this.counts.failed += this.waitingSpans;
    this.waiting.length = 0;
    this.waitingSpans = 0;
    this.waitingBytes = 0;
  }

  private async untilIdle(limitMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const limit = setTimeout(resolve, limitMs);
      this.whenIdle = () => {
        clearTimeout(limit);
        resolve();
      };
      this.sendNext();
    });
  }
}
