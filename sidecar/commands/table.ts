/** Writes rows as a table for terminals. */

/** Control characters of a name would move the cursor; names come from other processes. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to remove
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;
const MAX_CELL_CHARS = 60;

/** Columns are as wide as their widest cell, up to a limit; the last one is neither cut nor padded. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const last = header.length - 1;
  const fit = (cell: string, column: number): string =>
    column === last ? clean(cell) : clean(cell).slice(0, MAX_CELL_CHARS);
  const cells = [header, ...rows.map((row) => row.map(fit))];
  const widths = header.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  return cells
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Text of another process, fit for a terminal. */
export function clean(text: string): string {
  return text.replace(CONTROL, '?');
}

/** `0.4s`, `12s`, `3m 5s`, `2h 10m`. */
export function age(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)}s`;
  if (seconds < 60) return `${Math.round(seconds)}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m ${Math.floor(seconds % 60)}s`;
  return `${Math.floor(minutes / 60)}h ${minutes % 60}m`;
}
