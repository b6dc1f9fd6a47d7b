/** The scaler's own metrics for Prometheus. */
import { Counter, Gauge, Registry } from 'prom-client';
import type { RoundOutcome } from './fleet.ts';
import type { ScalerMethod } from './service.ts';

const METHODS: readonly ScalerMethod[] = ['IsActive', 'StreamIsActive', 'GetMetricSpec', 'GetMetrics'];

export class ScalerMetrics {
  readonly registry = new Registry();
  private readonly answers: Counter<'method' | 'code'>;
  private readonly held: Counter;
  private readonly pages: Counter<'outcome'>;
  private readonly costs: Counter;

  /** @param isBusConnected undefined without a bus */
  constructor(isBusConnected: (() => boolean) | undefined) {
    const registers = [this.registry];
    this.answers = new Counter({
      name: 'outrigger_scaler_answers_total',
      help: 'Answers to KEDA, by method and gRPC status: UNAVAILABLE when the answer was not known.',
      labelNames: ['method', 'code'],
      registers,
    });
    for (const method of METHODS) {
      this.answers.inc({ method, code: 'OK' }, 0);
      this.answers.inc({ method, code: 'UNAVAILABLE' }, 0);
    }
    this.held = new Counter({
      name: 'outrigger_scaler_held_total',
      help: 'Answers that kept the replicas as they were, because the work waited for the provider of models.',
      registers,
    });
    this.pages = new Counter({
      name: 'outrigger_scaler_pages_total',
      help: "Reads of pods' metrics: read, failed, or left out because the page is wrong or has other bounds than those of most pods.",
      labelNames: ['outcome'],
      registers,
    });
    for (const outcome of ['read', 'failed', 'left_out']) this.pages.inc({ outcome }, 0);
    this.costs = new Counter({
      name: 'outrigger_scaler_deletion_costs_total',
      help: 'Deletion costs that the scaler wrote to pods.',
      registers,
    });
    if (isBusConnected === undefined) return;
    new Gauge({
      name: 'outrigger_scaler_bus_connected',
      help: 'Whether the bus can be asked: 1 or 0.',
      registers,
      collect() {
        this.set(isBusConnected() ? 1 : 0);
      },
    });
  }

  answered(method: ScalerMethod, code: string): void {
    this.answers.inc({ method, code });
  }

  hold(): void {
    this.held.inc();
  }

  measured({ read, leftOut, pods, costsWritten }: RoundOutcome): void {
    this.pages.inc({ outcome: 'read' }, read);
    this.pages.inc({ outcome: 'failed' }, Math.max(0, pods - read - leftOut));
    this.pages.inc({ outcome: 'left_out' }, leftOut);
    this.costs.inc(costsWritten);
  }
}
