import type { MetricsSource } from '../telemetry/metrics.ts';

/**
 * The metrics' registry, loaded and made at the first scrape: it holds no numbers of its own, and loading it would
 * take a tenth of the time from start to ready.
 */
export class LazyRegistry {
  readonly contentType = 'text/plain; version=0.0.4; charset=utf-8';
  private readonly source: MetricsSource;
  private registry: Promise<{ metrics(): Promise<string> }> | undefined = undefined;

  constructor(source: MetricsSource) {
    this.source = source;
  }

  async metrics(): Promise<string> {
    this.registry ??= import('../telemetry/metrics.ts').then(({ createRegistry }) =>
      createRegistry(this.source),
    );
    return (await this.registry).metrics();
  }
}
