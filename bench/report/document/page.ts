// docs/performance.md, from the results alone.

import { readResult, type SectionResult } from '../../measuring/results.ts';
import { sections } from '../../sections/all.ts';
import { soakSection } from '../../sections/soak.ts';
import { figures, machineLine, remarks } from '../tables.ts';
import { barsTable } from './aims.ts';
import { bars } from './bars.ts';
import { pictures } from './pictures.ts';

const INTRODUCTION = `# Performance

\`npm run bench\` compares the sidecar with Envoy, HAProxy, nginx, pass-throughs on node:http2 and grpc-js, and no proxy at
all, each on one pinned core, in interleaved rounds of one run. [bench/README.md](../bench/README.md) describes the method,
and what it does not measure. Compare ratios within one run, not figures of different machines or days.

\`npm run bench:docs\` generates this page from the files in \`bench/results/\`; measure again instead of editing it. Metrics,
deadlines, balancer, circuit breaker, outlier detection and de-duplication of tasks are on, as by default.`;

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
      lines.push(
        ...remarks(section, result),
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
