/** Sends a steady load of tasks for the page. */

/** A sent task, as the page shows it. */
export interface SentTask {
  readonly id: number;
  readonly state: 'running' | 'succeeded' | 'failed';
  readonly ms: number;
  /** Why the task failed. */
  readonly error: string;
}

export interface SenderReport {
  /** The type of the agents that receive the tasks; '' when it sends none. */
  readonly to: string;
  readonly total: number;
  readonly succeeded: number;
  readonly failed: number;
  /** The latest tasks, oldest first. */
  readonly recent: readonly SentTask[];
}

const everyMs = 250;
/** Enough for all tasks that wait for a hanging agent until the sidecars route around it. */
const maxInFlight = 40;
const maxRecent = 60;
/** It stops when no page has requested its state for this long: a closed page must not leave it running. */
const unwatchedMs = 15_000;
const taskLimitMs = 70_000;
const question = 'Why do circuit breakers matter?';

/** Sends a task four times a second, so that faults have visible effects. */
export class Sender {
  private readonly url: string;
  private timer: NodeJS.Timeout | undefined = undefined;
  private to = '';
  private watchedAtMs = 0;
  private total = 0;
  private succeeded = 0;
  private failed = 0;
  private recent: SentTask[] = [];

  /** @param gatewayUrl such as `http://127.0.0.1:8080` */
  constructor(gatewayUrl: string) {
    this.url = `${gatewayUrl}/api/v1/tasks`;
  }

  /** @param agentType the type of the agents that receive the tasks from now on */
  start(agentType: string): void {
    this.to = agentType;
    this.watchedAtMs = performance.now();
    this.timer ??= setInterval(() => this.tick(), everyMs).unref();
  }

  stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.to = '';
  }

  report(): SenderReport {
    this.watchedAtMs = performance.now();
    const total = this.total;
    return { to: this.to, total, succeeded: this.succeeded, failed: this.failed, recent: this.recent };
  }

  private tick(): void {
    if (performance.now() - this.watchedAtMs > unwatchedMs) this.stop();
    else if (this.total - this.succeeded - this.failed < maxInFlight) void this.send();
  }

  private async send(): Promise<void> {
    const id = ++this.total;
    const startedMs = performance.now();
    this.put({ id, state: 'running', ms: 0, error: '' });
    const error = await this.ask();
    if (error === '') this.succeeded++;
    else this.failed++;
    const ms = Math.round(performance.now() - startedMs);
    this.put({ id, state: error === '' ? 'succeeded' : 'failed', ms, error });
  }

  /** Resolves with why the task failed; '' for success. */
  private async ask(): Promise<string> {
    try {
      const answer = await fetch(this.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ input: question, agent_type: this.to }),
        signal: AbortSignal.timeout(taskLimitMs),
      });
      const body = (await answer.json()) as { error?: { message?: string } };
      return answer.ok ? '' : (body.error?.message ?? `HTTP ${answer.status}`);
    } catch (error) {
      return (error as Error).message;
    }
  }

  private put(task: SentTask): void {
    const at = this.recent.findIndex(({ id }) => id === task.id);
    if (at >= 0) this.recent[at] = task;
    else if (task.state === 'running') this.recent = [...this.recent, task].slice(-maxRecent);
  }
}
