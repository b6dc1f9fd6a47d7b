/** The webhook's own metrics for Prometheus. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { ReviewOutcome } from './admission.ts';

const OUTCOMES: readonly ReviewOutcome[] = ['injected', 'untouched', 'refused'];
/** The statuses of refusals in `server.ts`; 0 is a failed handshake. */
const STATUSES = [0, 400, 404, 405, 413, 415, 500, 503];

export class WebhookMetrics {
  readonly registry = new Registry();
  private readonly reviews: Counter<'outcome'>;
  private readonly duration: Histogram;
  private readonly refused: Counter<'status'>;

  /** @param expiresAtMs returns when the current certificate expires; 0 for none */
  constructor(expiresAtMs: () => number) {
    const registers = [this.registry];
    this.reviews = new Counter({
      name: 'outrigger_webhook_reviews_total',
      help: 'Pods that the webhook reviewed, by outcome.',
      labelNames: ['outcome'],
      registers,
    });
    for (const outcome of OUTCOMES) this.reviews.inc({ outcome }, 0);
    this.duration = new Histogram({
      name: 'outrigger_webhook_review_duration_seconds',
      help: 'The time from the first byte of a review to its answer.',
      buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5],
      registers,
    });
    this.refused = new Counter({
      name: 'outrigger_webhook_refused_total',
      help: 'Refused requests, by HTTP status; 0 is a failed TLS handshake.',
      labelNames: ['status'],
      registers,
    });
    for (const status of STATUSES) this.refused.inc({ status }, 0);
    new Gauge({
      name: 'outrigger_webhook_certificate_expiry_timestamp_seconds',
      help: 'The time at which the current certificate expires; 0 without one.',
      registers,
      collect() {
        this.set(expiresAtMs() / 1000);
      },
    });
  }

  reviewed(outcome: ReviewOutcome, durationMs: number): void {
    this.reviews.inc({ outcome });
    this.duration.observe(durationMs / 1000);
  }

  refuse(status: number): void {
    this.refused.inc({ status: String(status) });
  }
}
