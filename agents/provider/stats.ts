/** The requests since the start or the last reset. */
export interface Stats {
  requests: number;
  /** Requests in progress. */
  active: number;
  /** Requests whose caller disconnected before the answer was complete. */
  aborted: number;
  by_path: Record<string, number>;
  by_model: Record<string, number>;
  /** By the header x-task-id, or the body's `user`. */
  by_task: Record<string, number>;
  by_status: Record<string, number>;
  tokens: { input: number; output: number };
}

/** The number of names in each table; the oldest name makes room for a new one. */
const maxNames = 10_000;

export class StatsCounter {
  private requests = 0;
  private active = 0;
  private aborted = 0;
  private tokens = { input: 0, output: 0 };
  private tables = { path: new Map(), model: new Map(), task: new Map(), status: new Map() };

  /** A request has arrived. */
  begin(path: string): void {
    this.requests += 1;
    this.active += 1;
    count(this.tables.path, path);
  }

  /** Its body has been read. */
  asked(model: string, task: string | undefined): void {
    count(this.tables.model, model);
    if (task !== undefined) count(this.tables.task, task);
  }

  answering(inputTokens: number): void {
    this.tokens.input += inputTokens;
  }

  sent(outputTokens: number): void {
    this.tokens.output += outputTokens;
  }

  /** The request has ended. */
  end(status: number, aborted: boolean): void {
    this.active = Math.max(0, this.active - 1);
    if (aborted) this.aborted += 1;
    else count(this.tables.status, String(status));
  }

  /** Resets everything except the active requests. */
  reset(): void {
    this.requests = 0;
    this.aborted = 0;
    this.tokens = { input: 0, output: 0 };
    for (const table of Object.values(this.tables)) table.clear();
  }

  read(): Stats {
    return {
      requests: this.requests,
      active: this.active,
      aborted: this.aborted,
      by_path: Object.fromEntries(this.tables.path),
      by_model: Object.fromEntries(this.tables.model),
      by_task: Object.fromEntries(this.tables.task),
      by_status: Object.fromEntries(this.tables.status),
      tokens: { ...this.tokens },
    };
  }
}

function count(table: Map<string, number>, name: string): void {
  const seen = table.get(name);
  if (seen === undefined && table.size >= maxNames) table.delete(table.keys().next().value!);
  table.set(name, (seen ?? 0) + 1);
}
