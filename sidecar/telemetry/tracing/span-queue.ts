import type { Span, SpanEncoder } from './span.ts';

/** The bounds of OpenTelemetry's batching processor (specification, "Batch Span Processor": `OTEL_BSP_*`). */
export interface SpanQueueSettings {
  /** Spans that may wait; further ones are dropped. */
  readonly maxQueueSize: number;
  /** Spans in one request. */
  readonly maxBatchSize: number;
  /** The longest a span waits for company, in milliseconds. */
  readonly scheduleDelayMs: number;
  /** The most one request may take with its retries, in milliseconds. */
  readonly exportTimeoutMs: number;
}

export const DEFAULT_QUEUE: SpanQueueSettings = {
  maxQueueSize: 2048,
  maxBatchSize: 512,
  scheduleDelayMs: 5_000,
  exportTimeoutMs: 30_000,
};

/** Whatever the spans are: what waits takes no more than this. */
export const MAX_QUEUE_BYTES = 16 * 1024 * 1024;

export type ExportResult =
  /** `rejected` spans were not taken, by the collector's own account. */
  { readonly ok: true; readonly rejected: number } | { readonly ok: false; readonly error: string };

/** Sends one body. `done` is called once, and never throws. */
export interface SpanExporter {
  send(body: Uint8Array, done: (result: ExportResult) => void): void;
}

/** What became of spans; for metrics. */
export class SpanCounts {
  exported = 0;
  /** The queue was full. */
  droppedQueueFull = 0;
  /** The collector could not be reached, or did not answer in time, or refused the request. */
  failed = 0;
  /** The collector took the request and not all of its spans. */
  rejected = 0;
}

/** Told when the collector's state changes, not of each failure. */
export interface SpanQueueListener {
  onExportFailing(error: string): void;
  onExportWorking(): void;
}

interface Batch {
  readonly body: Uint8Array;
  readonly spans: number;
}

/**
 * Holds spans until a collector takes them, and never more than its bounds.
 *
 *     add ──▶ open batch ──full, or its time is over──▶ waiting batches ──one at a time──▶ collector
 *      └── the queue is full: dropped, and counted
 *
 * One request is under way at a time, so that a slow collector makes the queue full and not the memory.
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
  /** Of the request under way. */
  private sendingSpans = 0;
  private failing = false;
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

  /** Spans that no collector has taken yet, those of the request under way included. */
  get size(): number {
    return this.waitingSpans + this.sendingSpans + this.encoder.count;
  }

  /** Takes a span that has ended, or drops it. Never waits, never throws. */
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
    this.waiting.push({ body, spans });
    this.waitingSpans += spans;
    this.waitingBytes += body.length;
  }

  private sendNext(): void {
    if (this.sending) return;
    const batch = this.waiting.shift();
    if (batch === undefined) {
      this.whenIdle?.();
      return;
    }
    this.waitingSpans -= batch.spans;
    this.waitingBytes -= batch.body.length;
    this.sending = true;
    this.sendingSpans = batch.spans;
    let over = false;
    let late = false;
    const end = (result: ExportResult): void => {
      // A request that has been given up may still be using its body.
      if (!late) this.encoder.recycle(batch.body);
      if (over) return;
      over = true;
      clearTimeout(limit);
      this.sending = false;
      this.sendingSpans = 0;
      this.count(batch.spans, result);
      this.sendNext();
    };
    const limit = setTimeout(() => {
      late = true;
      end({ ok: false, error: `no answer within ${this.settings.exportTimeoutMs} ms` });
    }, this.settings.exportTimeoutMs);
    limit.unref();
    this.exporter.send(batch.body, end);
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

  /** Sends what there is and takes no more; resolves when it is sent, and after `limitMs` at the latest. */
  async close(limitMs: number): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.timer);
    this.seal();
    if (!this.sending && this.waiting.length === 0) return;
    await new Promise<void>((resolve) => {
      const limit = setTimeout(resolve, limitMs);
      this.whenIdle = () => {
        clearTimeout(limit);
        resolve();
      };
      this.sendNext();
    });
    this.counts.failed += this.waitingSpans;
    this.waiting.length = 0;
    this.waitingSpans = 0;
    this.waitingBytes = 0;
  }
}
