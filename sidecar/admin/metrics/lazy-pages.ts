/** Defers the cost of metrics to the first scrape. */
import type { MetricsPage, MetricsPages } from './metrics-pages.ts';
import type { MetricsSource } from './metrics-source.ts';

/**
 * Loads and creates the metrics at the first scrape. They hold no numbers of their own, and loading them would take a
 * tenth of the time from start to ready.
 */
export class LazyPages {
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
    import('./metrics.ts'),
    import('./metrics-pages.ts'),
  ]);
  return new MetricsPages(createMetrics(source));
}
