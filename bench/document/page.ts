// docs/performance.md, from the results alone.
import { figures, machineLine, nameOf, show, table } from '../report.ts';
import { readResult, rowOf, type SectionResult } from '../results.ts';
import { soakSection } from '../sections/soak.ts';
import { sections } from '../sections.ts';
import { addedOfRounds, type Bar, bars } from './bars.ts';
import { pictures } from './pictures.ts';
import { reasons } from './reasons.ts';

const INTRODUCTION = `# Performance

\`npm run bench\` puts the sidecar beside Envoy, HAProxy, nginx, pass-throughs on node:http2 and grpc-js, and no proxy at
all, each on one pinned core, in interleaved rounds of one run. [bench/README.md](../bench/README.md) says how, and what
is not measured. Compare ratios within one run: figures of different machines, or of different days, say little.

This page is written by \`npm run bench:docs\` from the files in \`bench/results/\`; change those by measuring, not this.
Metrics, deadlines, balancer, circuit breaker, outlier detection and de-duplication of tasks are on, as they are by default.`;

/** Which picture belongs to which section. */
const PICTURES: Readonly<Record<string, readonly string[]>> = {
  calls: ['calls'],
  rates: ['cpu'],
  endpoints: ['endpoints'],
  streams: ['streams'],
  headers: ['headers'],
  soak: ['soak'],
};

export interface Document {
  readonly markdown: string;
  /** File name → content, beside the other pictures of the documents. */
  readonly pictures: ReadonlyMap<string, string>;
}

export function renderDocument(
  results: (section: string) => SectionResult | undefined = (section) => readResult(section),
): Document {
  const drawn = pictures(results);
  const parts = [INTRODUCTION, barsTable(bars(results))];
  for (const section of [...sections, soakSection]) {
    const result = results(section.name);
    const lines = [`## ${section.title}`, '', section.about, ''];
    if (result === undefined) lines.push(`Not measured yet: \`${commandOf(section.name)}\`.`);
    else {
      for (const picture of PICTURES[section.name] ?? []) {
        const file = `performance-${picture}.svg`;
        if (drawn.has(file)) lines.push(`![${section.title}](images/${file})`, '');
      }
      lines.push(...figures(section, result));
      if (section.name === 'rates') lines.push(...addedTable(result));
      lines.push(
        ...problems(result),
        '',
        `${machineLine(result)} Repeat it: \`${commandOf(section.name)}\`.`,
      );
    }
    parts.push(lines.join('\n'));
  }
  return { markdown: `${parts.join('\n\n')}\n`, pictures: drawn };
}

function commandOf(section: string): string {
  return section === 'soak' ? 'npm run bench -- --soak' : `npm run bench -- --rows ${section}`;
}

function barsTable(all: readonly Bar[]): string {
  const rows = all.flatMap(({ name, limit, findings }) =>
    findings.length === 0
      ? [[name, limit, '', 'not measured', '']]
      : findings.map(({ of, text, holds }) => [name, limit, of, text, holds ? 'holds' : '**does not hold**']),
  );
  const lines = [
    '## What was aimed at',
    '',
    'Ratios are medians of the ratios within each round, with the least and the most.',
    '',
    ...table(['', 'bar', 'of', 'measured', ''], rows),
  ];
  for (const { name, limit, findings } of all) {
    const reason = reasons[name];
    if (reason !== undefined && findings.some(({ holds }) => !holds))
      lines.push('', `**${name}, ${limit}**: ${reason}`);
  }
  return lines.join('\n');
}

/** What each proxy adds to the latency of a call without one. */
function addedTable(result: SectionResult): string[] {
  const names = [200, 1_000, 1_500].flatMap((rate) => [`p50at${rate}`, `p99at${rate}`]);
  const rows = result.rows
    .filter(({ target }) => target !== 'direct' && rowOf(result, 'direct') !== undefined)
    .map((row) => [
      nameOf(row),
      ...names.map((name) => {
        const added = addedOfRounds(result, row.target, name);
        return added === undefined
          ? ''
          : `${show(added.median, 3)} (${show(added.min, 3)}–${show(added.max, 3)})`;
      }),
    ]);
  if (rows.length === 0) return [];
  const titles = names.map(
    (name) => `${name.slice(0, 3)} at ${Number(name.slice(5)).toLocaleString('en-US')}/s`,
  );
  return [
    '',
    'Milliseconds added to those of `direct` in the same round:',
    '',
    ...table(['', ...titles], rows),
  ];
}

function problems(result: SectionResult): string[] {
  return result.rows.flatMap((row) => [
    ...(row.missing === undefined ? [] : ['', `Without ${nameOf(row)}: ${row.missing}.`]),
    ...(row.failures ?? []).map((failure) => `\n${nameOf(row)} failed: ${failure}`),
  ]);
}
