/** Parses the Prometheus text format. */

/** One sample of a metric. */
export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** Parses the Prometheus text format; skips lines that are no samples. */
export function parsePrometheus(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split('\n')) {
    const match = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (match === null) continue;
    const labels: Record<string, string> = {};
    for (const [, label, value] of (match[2] ?? '').matchAll(/([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g)) {
      labels[label!] = value!.replaceAll(/\\(.)/g, (_, escaped: string) =>
        escaped === 'n' ? '\n' : escaped,
      );
    }
    samples.push({ name: match[1]!, labels, value: Number(match[3]) });
  }
  return samples;
}

/** The samples that have grown, with the differences. */
export function growth(before: readonly Sample[], after: readonly Sample[]): Sample[] {
  const key = ({ name, labels }: Sample) => JSON.stringify([name, Object.entries(labels).sort()]);
  const old = new Map(before.map((sample) => [key(sample), sample.value]));
  return after
    .map((sample) => ({ ...sample, value: sample.value - (old.get(key(sample)) ?? 0) }))
    .filter(({ value }) => value > 0);
}
