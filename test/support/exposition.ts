// A strict reader of Prometheus' text format 0.0.4: whatever Prometheus would refuse or misread is an error.

export interface Exposition {
  /** By metric name: counter, gauge, histogram. */
  readonly types: ReadonlyMap<string, string>;
  /** By series, written as name{a="1",b="2"} with the labels in alphabetical order. */
  readonly samples: ReadonlyMap<string, number>;
  /** The value of the one series with exactly these labels. */
  value(name: string, labels?: Readonly<Record<string, string>>): number | undefined;
  /** Label sets and values of one name, as it is written on the line. */
  all(name: string): { readonly labels: Readonly<Record<string, string>>; readonly value: number }[];
}

interface Line {
  readonly name: string;
  readonly labels: Record<string, string>;
  readonly value: number;
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|$)/y;
const HISTOGRAM_PARTS = ['_bucket', '_sum', '_count'];

/** Throws an Error that names the line. */
export function parseExposition(text: string): Exposition {
  if (!text.endsWith('\n')) throw new Error('the last line does not end');
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
      const [, kind, name, rest] = comment as unknown as [string, string, string, string];
      if (!NAME.test(name)) fail('not a metric name');
      if (name !== family && families.has(name)) fail('the lines of a metric must be together');
      family = name;
      families.add(name);
      if (kind === 'TYPE') types.set(name, rest);
      return;
    }
    const sample = SAMPLE.exec(line) ?? fail('no sample');
    const [, name, labelText, number] = sample as unknown as [string, string, string | undefined, string];
    const parts = types.get(family) === 'histogram' ? HISTOGRAM_PARTS.map((part) => family + part) : [family];
    if (!parts.includes(name)) fail(`not a line of ${family}`);
    const labels = parseLabels(labelText ?? '') ?? fail('labels can not be read');
    const value = number === '+Inf' ? Number.POSITIVE_INFINITY : Number(number);
    if (Number.isNaN(value)) fail('not a number');
    const series = seriesName(name, labels);
    if (samples.has(series)) fail('the series comes twice');
    samples.set(series, value);
    lines.push({ name, labels, value });
  });
  for (const [name, type] of types) if (type === 'histogram') checkHistogram(name, lines);
  return {
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
  // An empty label is an absent one.
  const pairs = Object.entries(labels).filter(([, value]) => value !== '');
  return `${name}{${pairs
    .sort()
    .map(([label, value]) => `${label}=${JSON.stringify(value)}`)
    .join(',')}}`;
}

/** Buckets grow with their bound, and the last one is everything. */
function checkHistogram(name: string, lines: readonly Line[]): void {
  const counts = new Map<string, { bound: number; count: number }>();
  for (const { labels, value } of lines.filter((line) => line.name === `${name}_bucket`)) {
    const { le, ...rest } = labels;
    const key = seriesName(`${name}_count`, rest);
    const bound = le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le);
    const before = counts.get(key);
    if (before !== undefined && (before.bound >= bound || before.count > value)) {
      throw new Error(`${key}: the bucket ${le} does not go on from the one before`);
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
