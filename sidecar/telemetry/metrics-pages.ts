import PromRegistry from 'prom-client/lib/registry.js';
import { acceptedFormat, CONTENT_TYPES, type ExpositionFormat } from './accepted-format.ts';
import { openMetricsLabels } from './duration-histogram.ts';
import type { Sample, SampledMetric } from './sampled-metric.ts';

/** What one scrape is answered with. */
export interface MetricsPage {
  readonly contentType: string;
  readonly body: string;
}

/** Lines that are written in one go, some 100 µs. */
const SLICE_LINES = 50;
/** How long calls may have to wait for a scrape. */
const TURN_MS = 1;

/**
 * Writes the page that a scrape gets, with prom-client's registry for the text format and OpenMetrics.
 *
 * A thousand endpoints make thousands of lines, which take many milliseconds. So a page is written in pieces with
 * turns of the event loop between them, in which calls go on. Each metric is read at once, so a histogram's parts fit
 * each other; only the text is made later.
 *
 * One page is written at a time, and one more waits, which all that come in the meantime get: a crowd of scrapers
 * costs no more than one. Nobody gets numbers from before the question.
 */
export class MetricsPages {
  private readonly metrics: readonly SampledMetric[];
  private readonly formatters = {
    text: new PromRegistry(CONTENT_TYPES.text),
    openmetrics: new PromRegistry(CONTENT_TYPES.openmetrics),
  };
  private last: Promise<unknown> = Promise.resolve();
  private readonly waiting = new Map<ExpositionFormat, Promise<MetricsPage>>();

  constructor(metrics: readonly SampledMetric[]) {
    this.metrics = metrics;
  }

  /** @param accept the request's header of that name */
  page(accept: string | undefined): Promise<MetricsPage> {
    const format = acceptedFormat(accept);
    const waiting = this.waiting.get(format);
    if (waiting !== undefined) return waiting;
    const page = this.last.then(() => {
      this.waiting.delete(format);
      return this.write(format);
    });
    this.waiting.set(format, page);
    this.last = page.catch(() => {});
    return page;
  }

  private async write(format: ExpositionFormat): Promise<MetricsPage> {
    const parts: string[] = [];
    let turnEndsMs = performance.now() + TURN_MS;
    for (const metric of this.metrics) {
      const samples = metric.read();
      for (let at = 0; at === 0 || at < samples.length; at += SLICE_LINES) {
        const lines = await this.linesOf(metric, samples.slice(at, at + SLICE_LINES), format);
        // prom-client writes HELP and TYPE before every piece: they belong to the first.
        parts.push(at === 0 ? lines : lines.slice(afterTwoLines(lines)));
        if (performance.now() < turnEndsMs) continue;
        await new Promise((resolve) => setImmediate(resolve));
        turnEndsMs = performance.now() + TURN_MS;
      }
    }
    if (format === 'openmetrics') parts.push('# EOF');
    return { contentType: CONTENT_TYPES[format], body: `${parts.join('\n')}\n` };
  }

  /** The lines of some of a metric's samples; the last one has no end. */
  private linesOf(metric: SampledMetric, samples: readonly Sample[], format: ExpositionFormat) {
    const { name, help, type } = metric;
    const open = format === 'openmetrics';
    const piece = {
      // In OpenMetrics a counter is called without _total, and prom-client adds it to its lines.
      name: open && type === 'counter' ? name.replace(/_total$/, '') : name,
      help,
      type,
      aggregator: 'sum',
      values: open ? samples.map(openMetricsLabels) : samples,
    };
    return this.formatters[format].getMetricsAsString({ get: async () => piece });
  }
}

function afterTwoLines(text: string): number {
  return text.indexOf('\n', text.indexOf('\n') + 1) + 1;
}
