/**
 * Remembers on disk which calls have begun, so that a runner that was killed says of them that nobody knows what they have done. Only
 * calls with an id of tools that are not idempotent are written: the others may run again.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/** Lines after which the file is written anew, without the calls that have ended. */
const mostLines = 10_000;

export class BegunCalls {
  private readonly file: string;
  private readonly maxAgeMs: number;
  /** When the calls began that have not ended, by their keys. */
  private readonly open: Map<string, number>;
  /** Of these, the ones of an earlier process. */
  private readonly lost: ReadonlySet<string>;
  private lines = 0;

  /** @throws Error if the file can't be written */
  constructor(file: string, maxAgeMs: number, nowMs: number) {
    this.file = file;
    this.maxAgeMs = maxAgeMs;
    mkdirSync(dirname(file), { recursive: true });
    this.open = read(file);
    this.rewrite(nowMs);
    this.lost = new Set(this.open.keys());
  }

  /** Whether an earlier process began the call, and nobody knows how it ended. */
  isLost(key: string): boolean {
    return this.lost.has(key) && this.open.has(key);
  }

  /** Called before the call has any effect. A killed process leaves what it has written to the kernel. */
  begin(key: string, nowMs: number): void {
    this.open.set(key, nowMs);
    this.append(`+ ${nowMs} ${key}`, nowMs);
  }

  end(key: string, nowMs: number): void {
    if (this.open.delete(key)) this.append(`- ${nowMs} ${key}`, nowMs);
  }

  private append(line: string, nowMs: number): void {
    if (++this.lines > mostLines) this.rewrite(nowMs);
    else appendFileSync(this.file, `${line}\n`, { mode: 0o600 });
  }

  private rewrite(nowMs: number): void {
    for (const [key, beganMs] of this.open) if (nowMs - beganMs > this.maxAgeMs) this.open.delete(key);
    const lines = Array.from(this.open, ([key, beganMs]) => `+ ${beganMs} ${key}\n`);
    writeFileSync(`${this.file}.new`, lines.join(''), { mode: 0o600 });
    renameSync(`${this.file}.new`, this.file);
    this.lines = lines.length;
  }
}

function read(file: string): Map<string, number> {
  const open = new Map<string, number>();
  if (!existsSync(file)) return open;
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    // The last line may be cut.
    const [, sign, at, key = ''] = /^([+-]) (\d+) ([0-9a-f]{64})$/.exec(line) ?? [];
    if (sign === '+') open.set(key, Number(at));
    else if (sign === '-') open.delete(key);
  }
  return open;
}
