/** Finds clusters whose calls fail: most calls of the last seconds or, where there are few, each of the latest. Pure. */
import type { Finding } from './finding.ts';
import type { Recent } from './recent.ts';
import { counted, spanOf } from './words.ts';

/** The number of calls that ended so far, and of those with a system error. */
export interface EndedCalls {
  readonly name: string;
  readonly calls: number;
  readonly errors: number;
  /** The model failure behind the latest error, in words; '' where none is known. */
  readonly behind: string;
}

const MIN_ERRORS = 3;
/** At a call a minute, the latest calls are minutes old, and still the best evidence. */
const RUN_MS = 600_000;

/** Failures without a success among them. */
interface Run {
  calls: number;
  errors: number;
  inARow: number;
  atMs: number;
}

export class FailureWatch {
  private readonly recent: Recent;
  private readonly runs = new Map<string, Run>();

  constructor(recent: Recent) {
    this.recent = recent;
  }

  /** Call it once for each cluster in each pass. */
  findingOf({ name, calls, errors, behind }: EndedCalls, nowMs: number): Finding | undefined {
    const ended = this.recent.grown(`calls ${name}`, calls, nowMs);
    const failed = this.recent.grown(`errors ${name}`, errors, nowMs);
    const run = this.follow(name, calls, errors, nowMs);
    const cause = behind === '' ? '' : `: ${behind}`;
    const finding = {
      kind: 'calls_fail',
      id: `calls ${name}`,
      severity: 'bad',
      about: { cluster: name },
    } as const;
    if (failed >= MIN_ERRORS && failed * 2 >= ended)
      return {
        ...finding,
        text: `Most calls to ${name} fail${cause}.`,
        detail: `${failed} of the latest ${counted(ended, 'call')}, in ${this.recent.seconds} s`,
        numbers: { failed_calls: failed, ended_calls: ended },
      };
    if (run.inARow < MIN_ERRORS || nowMs - run.atMs >= RUN_MS) return undefined;
    return {
      ...finding,
      text: `Each of the latest calls to ${name} has failed${cause}.`,
      detail: `${run.inARow} in a row, the latest ${spanOf(nowMs - run.atMs)} ago`,
      numbers: { failed_calls: run.inARow, latest_ms_ago: Math.round(nowMs - run.atMs) },
    };
  }

  private follow(name: string, calls: number, errors: number, nowMs: number): Run {
    let run = this.runs.get(name);
    if (run === undefined) {
      run = { calls: 0, errors: 0, inARow: 0, atMs: 0 };
      this.runs.set(name, run);
    }
    const failed = errors - run.errors;
    // A counter that has decreased belongs to another cluster of the same name.
    const isOther = failed < 0 || calls < run.calls;
    if (isOther || calls - run.calls > failed) run.inARow = 0;
    else run.inARow += failed;
    if (failed > 0) run.atMs = nowMs;
    run.calls = calls;
    run.errors = errors;
    return run;
  }

  /** Removes the clusters that no longer exist. */
  keep(known: ReadonlySet<string>): void {
    for (const name of this.runs.keys()) if (!known.has(name)) this.runs.delete(name);
  }
}
