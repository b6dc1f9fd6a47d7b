// A strict parser of Prometheus' text format 0.0.4 and of OpenMetrics 1.0: it treats whatever Prometheus would refuse
// or misread as an error. OpenMetrics counters have their names of the text format, with `_total`.

export interface Exposition {
  /** Whether the page is OpenMetrics, which ends with `# EOF`. */
  readonly openMetrics: boolean;
  /** By the name on the line. */
  readonly exemplars: ReadonlyMap<string, readonly ExemplarLine[]>;
  /** By metric name: counter, gauge, histogram. */
  readonly types: ReadonlyMap<string, string>;
  /** By series, in the form name{a="1",b="2"} with the labels in alphabetical order. */
  readonly samples: ReadonlyMap<string, number>;
  /** The value of the one series with exactly these labels. */
  value(name: string, labels?: Readonly<Record<string, string>>): number | undefined;
  /** Label sets and values of all lines with this name. */
  all(name: string): { readonly labels: Readonly<Record<string, string>>; readonly value: number }[];
}

interface ExemplarLine {
  /** The labels of its line. */
  readonly labels: Readonly<Record<string, string>>;
  /** The labels of the exemplar. */
  readonly exemplar: Readonly<Record<string, string>>;
  readonly value: number;
  readonly atSeconds: number;
}

interface Line {
  readonly name: string;
  readonly labels: Record<string, string>;
  readonly value: number;
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const EXEMPLAR = /^(.+) # \{(.*)\} (\S+) (\d+(?:\.\d+)?)$/;
const MAX_EXEMPLAR_CHARS = 128;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|$)/y;
const HISTOGRAM_PARTS = ['_bucket', '_sum', '_count'];

/** Throws an Error that names the line. */
export function parseExposition(page: string): Exposition {
  if (!page.endsWith('\n')) throw new Error('the last line has no line feed');
  const openMetrics = page.endsWith('\n# EOF\n');
  const text = openMetrics ? page.slice(0, -'# EOF\n'.length) : page;
  const exemplars = new Map<string, ExemplarLine[]>();
  const types = new Map<string, string>();
  const samples = new Map<string, number>();
  const lines: Line[] = [];
  const families = new Set<string>();
  let family = '';
  text.split('\n').forEach((line, index) => {
    const fail = (what: string): never => {
      throw new Error(`line ${index + 1}: ${what}: ${line}`);
    };
    if (line === '') return;
    const comment = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line);
    if (comment !== null) {
      const [, kind, base, rest] = comment as unknown as [string, string, string, string];
      if (!NAME.test(base)) fail('not a metric name');
      if (openMetrics && base.endsWith('_total')) fail('a family of OpenMetrics has no _total');
      const name = openMetrics && text.includes(`\n# TYPE ${base} counter\n`) ? `${base}_total` : base;
      if (name !== family && families.has(name)) fail('the lines of a metric must be adjacent');
      family = name;
      families.add(name);
      if (kind === 'TYPE') types.set(name, rest);
      return;
    }
    const withExemplar = openMetrics ? EXEMPLAR.exec(line) : null;
    const sample = SAMPLE.exec(withExemplar?.[1] ?? line) ?? fail('no sample');
    const [, name, labelText, number] = sample as unknown as [string, string, string | undefined, string];
    const parts = types.get(family) === 'histogram' ? HISTOGRAM_PARTS.map((part) => family + part) : [family];
    if (!parts.includes(name)) fail(`not a line of ${family}`);
    const labels = parseLabels(labelText ?? '') ?? fail('the labels are malformed');
    const value = number === '+Inf' ? Number.POSITIVE_INFINITY : Number(number);
    if (Number.isNaN(value)) fail('not a number');
    const le = labels['le'];
    if (openMetrics && le !== undefined && le !== '+Inf' && !le.includes('.')) fail('not a canonical bound');
    if (withExemplar !== null) {
      if (!name.endsWith('_bucket')) fail('an exemplar on a line that can not have one');
      const exemplar = parseLabels(withExemplar[2]!) ?? fail('the exemplar is malformed');
      if (Object.entries(exemplar).flat().join('').length > MAX_EXEMPLAR_CHARS)
        fail('the exemplar is too long');
      const exemplarValue = Number(withExemplar[3]);
      if (!(exemplarValue <= (le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le))))
        fail('the exemplar is outside its bucket');
      const found = { labels, exemplar, value: exemplarValue, atSeconds: Number(withExemplar[4]) };
      exemplars.set(name, [...(exemplars.get(name) ?? []), found]);
    }
    const series = seriesName(name, labels);
    if (samples.has(series)) fail('the series occurs twice');
    samples.set(series, value);
    lines.push({ name, labels, value });
  });
  for (const [name, type] of types) if (type === 'histogram') checkHistogram(name, lines);
  return {
    openMetrics,
    exemplars,
    types,
    samples,
    value: (name, labels = {}) => samples.get(seriesName(name, labels)),
    all: (name) => lines.filter((line) => line.name === name),
  };
}

function parseLabels(text: string): Record<string, string> | undefined {
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const label = LABEL.exec(text);
    if (label === null || label[1]! in labels) return undefined;
    labels[label[1]!] = label[2]!.replace(/\\(.)/g, (_, char: string) => (char === 'n' ? '\n' : char));
  }
  return labels;
}

function seriesName(name: string, labels: Readonly<Record<string, string>>): string {
  // An empty label counts as absent.
  const pairs = Object.entries(labels).filter(([, value]) => value !== '');
  return `${name}{${pairs
    .sort()
    .map(([label, value]) => `${label}=${JSON.stringify(value)}`)
    .join(',')}}`;
}

/** Bucket counts grow with the bounds, and the last bucket counts everything. */
function checkHistogram(name: string, lines: readonly Line[]): void {
  const counts = new Map<string, { bound: number; count: number }>();
  for (const { labels, value } of lines.filter((line) => line.name === `${name}_bucket`)) {
    const { le, ...rest } = labels;
    const key = seriesName(`${name}_count`, rest);
    const bound = le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le);
    const before = counts.get(key);
    if (before !== undefined && (before.bound >= bound || before.count > value)) {
      throw new Error(`${key}: the bucket ${le} counts fewer than the one before`);
    }
    counts.set(key, { bound, count: value });
  }
  const totals = lines.filter((line) => line.name === `${name}_count`);
  if (totals.length !== counts.size) throw new Error(`${name}: ${totals.length} counts of ${counts.size}`);
  for (const { labels, value } of totals) {
    const last = counts.get(seriesName(`${name}_count`, labels));
    if (last?.bound !== Number.POSITIVE_INFINITY || last.count !== value) {
      throw new Error(`${name} ${JSON.stringify(labels)}: +Inf is ${last?.count}, the count ${value}`);
    }
  }
}
