/** Writes the page that answers a scrape, in pieces, so that calls continue meanwhile. */
import PromRegistry from 'prom-client/lib/registry.js';
import { acceptedFormat, CONTENT_TYPES, type ExpositionFormat } from './accepted-format.ts';
import { histogramLines } from './duration-histogram.ts';
import { ProtobufPage } from './metrics-protobuf.ts';
import { PageText } from './page-text.ts';
import type { Sample, SampledMetric } from './sampled-metric.ts';

/** The answer to one scrape. */
export interface MetricsPage {
  readonly contentType: string;
  readonly body: Buffer;
}

const NO_LABELS = {};
/** Lines that we write in one go; they take some 100 µs. */
const SLICE_LINES = 50;
/** How long a scrape may delay calls. */
const TURN_MS = 1;

/**
 * Writes the page of a scrape: by prom-client's registry for the text format and OpenMetrics, by `metrics-protobuf.ts`
 * for scrapers that take native histograms.
 *
 * A thousand endpoints make thousands of lines, which take many milliseconds. So we write a page in pieces and let
 * calls run in turns of the event loop between them. We read the lines of one label set, such as a histogram's parts,
 * at one moment, so they are consistent.
 *
 * One page is written at a time, and one more waits; all requests that arrive meanwhile share the waiting page. So many
 * scrapers cost no more than one. No scraper receives numbers from before its request.
 */
export class MetricsPages {
  private readonly metrics: readonly SampledMetric[];
  private readonly formatters = {
    text: new PromRegistry(CONTENT_TYPES.text),
    openmetrics: new PromRegistry(CONTENT_TYPES.openmetrics),
  };
  private last: Promise<unknown> = Promise.resolve();
  private readonly lastBytes = { text: 0, openmetrics: 0 };
  private readonly waiting = new Map<ExpositionFormat, Promise<MetricsPage>>();

  constructor(metrics: readonly SampledMetric[]) {
    this.metrics = metrics;
  }

  /** @param accept the request's `Accept` header */
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
    const page = new PageText(this.lastBytes[format]);
    await this.inTurns(async (metric, samples, first) => {
      const lines = await this.linesOf(metric, samples, format);
      // prom-client writes HELP and TYPE before every piece; they belong before the first only.
      page.add(lines, first ? 0 : afterTwoLines(lines));
      page.add('\n');
    });
    if (format === 'openmetrics') page.add('# EOF\n');
    const body = page.bytes;
    this.lastBytes[format] = body.length;
    return { contentType, body };
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

  /** The lines of some of a metric's samples; the last line has no line ending. */
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
      // In OpenMetrics a counter's name has no _total; prom-client adds it to the lines.
      name: open && type === 'counter' ? name.replace(/_total$/, '') : name,
      help,
      type,
      aggregator: 'sum',
      // prom-client caches the text of shared labels by their object.
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

/** Yields at least one slice: a metric without lines still has a name. */
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
