// Turns a section's results into Markdown that also reads well on a terminal, with ratios to the peers.
import type { MeasureSpec, Section } from '../measuring/procedure.ts';
import { addedOfRounds, ratioOfRounds } from '../measuring/ratios.ts';
import { rowOf, type SectionResult, type SectionRow, summaryOf } from '../measuring/results.ts';

/** Peers that others are compared with. */
const BASES = ['envoy', 'haproxy'] as const;
/** The share of `direct` above which load and upstream limit the figure, too. */
const LIMITED_SHARE = 0.8;

export function sectionReport(section: Section, result: SectionResult): string {
  const lines = [
    `## ${section.title}`,
    '',
    section.about,
    '',
    machineLine(result),
    '',
    ...figures(section, result),
  ];
  lines.push(...remarks(section, result));
  return `${lines.join('\n')}\n`;
}

/** The rows without results, and the limits of the others. */
export function remarks(section: Section, result: SectionResult): string[] {
  const lines: string[] = [];
  for (const row of result.rows) {
    for (const failure of row.failures ?? []) lines.push('', `**${nameOf(row)} failed**: ${failure}`);
    if (row.missing !== undefined) lines.push('', `Without ${nameOf(row)}: ${row.missing}.`);
    if (row.target === 'direct') continue;
    for (const [name, { title, better, aside }] of Object.entries(section.measures)) {
      const share = ratioOfRounds(row, rowOf(result, 'direct', row.variant), name)?.median ?? 0;
      if (better === 'less' || aside === true || share < LIMITED_SHARE) continue;
      lines.push(
        '',
        `${nameOf(row)} reaches ${Math.round(100 * share)} % of \`direct\` (${title}), so load and upstream limit it, too.`,
      );
    }
  }
  return lines;
}

export function machineLine(result: SectionResult): string {
  const { at, processor, cores, node, build, commit, loadBefore, rounds, seconds } = result;
  return (
    `Measured ${at.slice(0, 16).replace('T', ' ')} UTC${commit === undefined ? '' : ` at ${commit}`} on ${cores} cores of ` +
    `${processor}, Node ${node}, the sidecar ${build === 'image' ? 'as in its image' : 'from its sources'}; ${rounds} interleaved ${rounds === 1 ? 'round' : 'rounds'} of ${seconds} s a measurement, ` +
    `load average before ${loadBefore.toFixed(2)}. Medians, with the minimum and maximum of the rounds in parentheses.`
  );
}

/** The table of figures, and one of ratios to each peer that was measured in the same run. */
export function figures(section: Section, result: SectionResult): string[] {
  const measured = result.rows.filter((row) => Object.keys(row.values).length > 0);
  const names = Object.keys(section.measures).filter((name) => measured.some((row) => name in row.values));
  const titles = names.map((name) => section.measures[name]!.title);
  const lines = table(
    ['', ...titles],
    measured.map((row) => [nameOf(row), ...names.map((name) => cell(row, name, section.measures[name]!))]),
  );
  lines.push(...addedTable(section, result));
  for (const base of BASES) {
    const rows = measured.filter(
      (row) =>
        row.target !== base && row.target !== 'direct' && rowOf(result, base, row.variant) !== undefined,
    );
    const compared = names.filter((name) => section.measures[name]!.aside !== true);
    if (rows.length === 0 || compared.length === 0 || !measured.some((row) => row.target === base)) continue;
    lines.push('', `Ratios to ${nameOfPeer(base)} in the same run:`, '');
    lines.push(
      ...table(
        ['', ...compared.map((name) => section.measures[name]!.title)],
        rows.map((row) => [
          nameOf(row),
          ...compared.map((name) => ratioCell(row, rowOf(result, base, row.variant), name)),
        ]),
      ),
    );
  }
  return lines;
}

/** The latency that each proxy adds to a direct call. */
function addedTable(section: Section, result: SectionResult): string[] {
  const names = Object.keys(section.measures).filter((name) => section.measures[name]!.added === true);
  if (names.length === 0) return [];
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
  const titles = names.map((name) => section.measures[name]!.title);
  return ['', 'Difference to `direct` in the same round:', '', ...table(['', ...titles], rows)];
}

function nameOf({ target, variant }: SectionRow): string {
  return variant === '' ? target : `${target}, ${variant}`;
}

function nameOfPeer(base: (typeof BASES)[number]): string {
  return { envoy: 'Envoy', haproxy: 'HAProxy' }[base];
}

function cell(row: SectionRow, name: string, { digits }: MeasureSpec): string {
  const summary = summaryOf(row, name);
  if (summary === undefined) return '';
  const { median, min, max, values } = summary;
  const spread = values.length > 1 ? ` (${show(min, digits)}–${show(max, digits)})` : '';
  return `${show(median, digits)}${spread}`;
}

function ratioCell(row: SectionRow, base: SectionRow | undefined, name: string): string {
  const ratio = ratioOfRounds(row, base, name);
  return ratio === undefined ? '' : ratio.median.toFixed(2);
}

function show(value: number, digits?: number): string {
  const places = digits ?? (Math.abs(value) < 10 ? 2 : 0);
  return value.toLocaleString('en-US', { minimumFractionDigits: places, maximumFractionDigits: places });
}

export function table(head: readonly string[], body: readonly (readonly string[])[]): string[] {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...body.map((row) => row[column]!.length)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...body.map(line)];
}
