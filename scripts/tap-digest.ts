// Digests the runner's TAP as it arrives for readers of a log: a line for each file, the whole output of a failed file,
// each skipped test by name, and the counts.

export interface TestCounts {
  passed: number;
  failed: number;
  skipped: number;
}

/** The counts in tap's closing line, `# { total: 5, pass: 3, fail: 1, skip: 1 }`; all 0 without one. */
export function closingCounts(tap: string): TestCounts {
  // The last unindented one: files print their own closing lines, indented.
  const line = [...tap.matchAll(/^# \{ (total: .*) \}$/gm)].at(-1)?.[1] ?? '';
  const count = (name: string): number => Number(new RegExp(`\\b${name}: (\\d+)`).exec(line)?.[1] ?? 0);
  return { passed: count('pass'), failed: count('fail'), skipped: count('skip') + count('todo') };
}

export class TapDigest {
  private readonly print: (line: string) => void;
  private rest = '';
  private file: string[] = [];
  private closing = '';
  /** After a failed file: its exit code or signal may follow, in a block from `  ---` to `  ...`. */
  private diagnosis: 'none' | 'may_follow' | 'begun' = 'none';

  constructor(print: (line: string) => void) {
    this.print = print;
  }

  get counts(): TestCounts {
    return closingCounts(this.closing);
  }

  write(chunk: string): void {
    const lines = (this.rest + chunk).split('\n');
    this.rest = lines.pop() ?? '';
    for (const line of lines) this.line(line);
  }

  end(): void {
    if (this.rest !== '') this.line(this.rest);
    // The remaining lines belong to a file without a result.
    for (const line of this.file) this.print(line);
  }

  private line(line: string): void {
    if (this.diagnosis !== 'none' && this.isDiagnosis(line)) this.print(line);
    else if (/^# \{ total: /.test(line)) {
      this.closing = line;
    } else if (/^ok \d+/.test(line)) {
      for (const inner of this.file) if (/^\s+ok \d+ .*# (SKIP|TODO)/.test(inner)) this.print(inner);
      this.print(line);
      this.file = [];
    } else if (/^not ok \d+/.test(line)) {
      for (const inner of this.file) this.print(inner);
      this.print(line);
      this.file = [];
      this.diagnosis = 'may_follow';
    } else if (/^\s/.test(line)) {
      this.file.push(line);
    } else if (line !== '' && !/^(TAP version|\d+\.\.\d+|# (Subtest|No coverage|time=))/.test(line)) {
      this.print(line);
    }
  }

  private isDiagnosis(line: string): boolean {
    if (this.diagnosis === 'may_follow') this.diagnosis = line === '  ---' ? 'begun' : 'none';
    const belongs = this.diagnosis === 'begun';
    if (line === '  ...') this.diagnosis = 'none';
    return belongs;
  }
}
