/** Defers the cost of metrics to the first scrape. */
import type { MetricsSource } from '../telemetry/metrics.ts';
import type { MetricsPage, MetricsPages } from '../telemetry/metrics-pages.ts';

/**
 * Loads and creates the metrics at the first scrape. They hold no numbers of their own, and loading them would take a
 * tenth of the time from start to ready.
 */
export class LazyRegistry {
  private readonly source: MetricsSource;
  private pages: Promise<MetricsPages> | undefined = undefined;

  constructor(source: MetricsSource) {
    this.source = source;
  }

  /** @param accept the request's `Accept` header: a client that requests OpenMetrics gets it */
  async page(accept?: string): Promise<MetricsPage> {
    this.pages ??= load(this.source);
    return (await this.pages).page(accept);
  }
}

async function load(source: MetricsSource): Promise<MetricsPages> {
  const [{ createMetrics }, { MetricsPages }] = await Promise.all([
    import('../telemetry/metrics.ts'),
    import('../telemetry/metrics-pages.ts'),
  ]);
  return new MetricsPages(createMetrics(source));
}
