/** Sends a steady load of tasks for the page. */
import type { Layout } from './layouts/layout.ts';

type Questions = Layout['questions'];

/** A sent task, as the page shows it. */
export interface SentTask {
  readonly id: number;
  /** '' while it runs: the gateway gives it in its answer. */
  readonly taskId: string;
  readonly agent: string;
  readonly state: 'running' | 'succeeded' | 'failed';
  readonly ms: number;
  /** When it ended, or began if it still runs; ISO 8601, UTC. */
  readonly at: string;
  /** Why the task failed. */
  readonly error: string;
}

export interface SenderReport {
  readonly sending: boolean;
  /** The user has paused the tasks; otherwise a page may start them. */
  readonly paused: boolean;
  /** The tasks cost money: only the user may start them. */
  readonly costs: boolean;
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
/** The tasks that a search finds: five minutes. */
const maxKept = 1200;
const maxFound = 20;
/** It stops when no page has requested its state for this long: a closed page must not leave it running. */
const unwatchedMs = 15_000;
const taskLimitMs = 70_000;

/** Sends a task four times a second, to each type of agent in turn, so that faults have visible effects. */
export class Sender {
  private readonly url: string;
  private readonly costs: boolean;
  private readonly questions: Questions;
  private timer: NodeJS.Timeout | undefined = undefined;
  private paused = false;
  private watchedAtMs = 0;
  private total = 0;
  private succeeded = 0;
  private failed = 0;
  private kept: SentTask[] = [];

  /**
   * @param gatewayUrl such as `http://127.0.0.1:8080`
   * @param costs whether a provider takes money for the tasks
   * @param questions one of each kind that the layout's agents answer
   */
  constructor(gatewayUrl: string, costs: boolean, questions: Questions) {
    this.questions = questions;
    this.url = `${gatewayUrl}/api/v1/tasks`;
    this.costs = costs;
  }

  /** The user wants tasks. */
  start(): void {
    this.paused = false;
    this.watchedAtMs = performance.now();
    this.timer ??= setInterval(() => this.tick(), everyMs).unref();
  }

  /** A page was opened: starts unless the user has paused the tasks or they cost money. */
  startByItself(): void {
    if (!this.paused && !this.costs) this.start();
  }

  /** The user wants no tasks. */
  pause(): void {
    this.paused = true;
    this.stop();
  }

  report(): SenderReport {
    this.watchedAtMs = performance.now();
    const { total, succeeded, failed, paused, costs, timer } = this;
    const recent = this.kept.slice(-maxRecent);
    return { sending: timer !== undefined, paused, costs, total, succeeded, failed, recent };
  }

  /** The newest kept tasks whose id contains the text. */
  find(text: string): readonly SentTask[] {
    return this.kept
      .filter(({ taskId }) => taskId.includes(text))
      .slice(-maxFound)
      .reverse();
  }

  private stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private tick(): void {
    if (performance.now() - this.watchedAtMs > unwatchedMs) this.stop();
    else if (this.total - this.succeeded - this.failed < maxInFlight) void this.send();
  }

  private async send(): Promise<void> {
    const id = ++this.total;
    const [agent, question] = this.questions[id % this.questions.length]!;
    const startedMs = performance.now();
    const task = { id, taskId: '', agent, state: 'running', ms: 0, error: '' } as const;
    this.kept = [...this.kept.slice(1 - maxKept), { ...task, at: new Date().toISOString() }];
    const { taskId, error } = await this.ask(agent, question);
    if (error === '') this.succeeded++;
    else this.failed++;
    const ms = Math.round(performance.now() - startedMs);
    const at = this.kept.findLastIndex((one) => one.id === id);
    const state = error === '' ? 'succeeded' : 'failed';
    if (at >= 0) this.kept[at] = { ...task, taskId, state, ms, error, at: new Date().toISOString() };
  }

  /** Resolves with the task's id, and why it failed; '' for success. */
  private async ask(agent: string, input: string): Promise<{ taskId: string; error: string }> {
    try {
      const answer = await fetch(this.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ input, agent_type: agent }),
        signal: AbortSignal.timeout(taskLimitMs),
      });
      const body = (await answer.json()) as {
        task_id?: string;
        error?: { message?: string; task_id?: string };
      };
      const error = answer.ok ? '' : (body.error?.message ?? `HTTP ${answer.status}`);
      return { taskId: body.task_id ?? body.error?.task_id ?? '', error };
    } catch (error) {
      return { taskId: '', error: (error as Error).message };
    }
  }
}
