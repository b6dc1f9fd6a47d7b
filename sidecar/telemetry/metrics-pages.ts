import PromRegistry from 'prom-client/lib/registry.js';
import { acceptedFormat, CONTENT_TYPES, type ExpositionFormat } from './accepted-format.ts';
import { histogramLines } from './duration-histogram.ts';
import { ProtobufPage } from './metrics-protobuf.ts';
import type { Sample, SampledMetric } from './sampled-metric.ts';

/** What one scrape is answered with. */
export interface MetricsPage {
  readonly contentType: string;
  readonly body: string | Buffer;
}

const NO_LABELS = {};
/** Lines that are written in one go, some 100 µs. */
const SLICE_LINES = 50;
/** How long calls may have to wait for a scrape. */
const TURN_MS = 1;

/**
 * Writes the page that a scrape gets, with prom-client's registry for the text format and OpenMetrics, and by
 * `metrics-protobuf.ts` for scrapers that take native histograms.
 *
 * A thousand endpoints make thousands of lines, which take many milliseconds. So a page is written in pieces with
 * turns of the event loop between them, in which calls go on. The lines of one label set, a histogram's parts, are
 * read at one moment and fit each other.
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
    const contentType = CONTENT_TYPES[format];
    if (format === 'protobuf') return { contentType, body: await this.writeProtobuf() };
    const parts: string[] = [];
    await this.inTurns(async (metric, samples, first) => {
      const lines = await this.linesOf(metric, samples, format);
      // prom-client writes HELP and TYPE before every piece: they belong to the first.
      parts.push(first ? lines : lines.slice(afterTwoLines(lines)));
    });
    if (format === 'openmetrics') parts.push('# EOF');
    return { contentType, body: `${parts.join('\n')}\n` };
  }

  private async writeProtobuf(): Promise<Buffer> {
    const page = new ProtobufPage();
    const families = new Map<SampledMetric, Buffer[]>();
    await this.inTurns((metric, samples, first) => {
      if (samples.length === 0) return;
      if (first) families.set(metric, []);
      families.get(metric)!.push(page.metrics(metric.type, samples));
    });
    return Buffer.concat(Array.from(families, ([metric, pieces]) => page.family(metric, pieces)).flat());
  }

  /** Takes all metrics in pieces, with turns of the event loop between them. */
  private async inTurns(
    take: (metric: SampledMetric, samples: readonly Sample[], first: boolean) => Promise<void> | void,
  ): Promise<void> {
    let turnEndsMs = performance.now() + TURN_MS;
    for (const metric of this.metrics) {
      let first = true;
      for (const samples of slices(metric.read())) {
        await take(metric, samples, first);
        first = false;
        if (performance.now() < turnEndsMs) continue;
        await new Promise((resolve) => setImmediate(resolve));
        turnEndsMs = performance.now() + TURN_MS;
      }
    }
  }

  /** The lines of some of a metric's samples; the last one has no end. */
  private linesOf(
    metric: SampledMetric,
    samples: readonly Sample[],
    format: Exclude<ExpositionFormat, 'protobuf'>,
  ): Promise<string> {
    const { name, help, type } = metric;
    const lines = samples.flatMap((sample) =>
      sample.histogram === undefined ? sample : histogramLines(name, sample.labels, sample.histogram),
    );
    const open = format === 'openmetrics';
    const piece = {
      // In OpenMetrics a counter is called without _total, and prom-client adds it to its lines.
      name: open && type === 'counter' ? name.replace(/_total$/, '') : name,
      help,
      type,
      aggregator: 'sum',
      // prom-client keeps the text of shared labels by their object.
      values: lines.map(({ metricName, labels, value, exemplar }) => ({
        metricName,
        labels: NO_LABELS,
        sharedLabels: labels,
        value,
        exemplar,
      })),
    };
    return this.formatters[format].getMetricsAsString({ get: async () => piece });
  }
}

/** At least one: a metric without lines has a name too. */
function* slices(samples: Iterable<Sample>): Generator<readonly Sample[]> {
  let slice: Sample[] = [];
  let lines = 0;
  let some = false;
  for (const sample of samples) {
    slice.push(sample);
    lines += sample.histogram === undefined ? 1 : sample.histogram.layout.le.length + 2;
    if (lines < SLICE_LINES) continue;
    yield slice;
    some = true;
    slice = [];
    lines = 0;
  }
  if (slice.length > 0 || !some) yield slice;
}

function afterTwoLines(text: string): number {
  return text.indexOf('\n', text.indexOf('\n') + 1) + 1;
}
