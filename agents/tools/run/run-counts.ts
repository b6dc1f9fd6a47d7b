/** Counts runs by tool and outcome, for metrics and the JSON of the status listener. */

export class RunCounts {
  private readonly counts = new Map<string, { tool: string; outcome: string; runs: number }>();

  count(tool: string, outcome: string): void {
    const key = `${tool} ${outcome}`;
    const known = this.counts.get(key);
    if (known === undefined) this.counts.set(key, { tool, outcome, runs: 1 });
    else known.runs++;
  }

  list(): readonly { readonly tool: string; readonly outcome: string; readonly runs: number }[] {
    return [...this.counts.values()];
  }
}
