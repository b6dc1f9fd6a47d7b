/** How many tasks wait and run, asked of the bus: one question at a time, whose answer all who ask meanwhile get. */
import { LogUnavailableError } from '../../bus/log/log-errors.ts';
import type { QueueStatus, TaskLog } from '../../bus/log/task-log.ts';

/** KEDA asks for the metric and for the activity one after the other: both get one answer. */
const SAME_MS = 200;
/** KEDA waits longer, so that it hears why there is no answer. */
const ANSWER_MS = 3_000;

export class QueueCounts {
  private readonly log: Pick<TaskLog, 'status'>;
  private readonly now: () => number;
  private answer: Promise<readonly QueueStatus[]> | undefined = undefined;
  private askedAtMs = Number.NEGATIVE_INFINITY;

  constructor(log: Pick<TaskLog, 'status'>, now: () => number) {
    this.log = log;
    this.now = now;
  }

  /**
   * The tasks of a type that wait and run. A type of which the bus has never heard has none.
   *
   * @throws LogUnavailableError
   */
  async of(agentType: string, maxAgeMs = SAME_MS): Promise<number> {
    if (this.answer === undefined || this.now() - this.askedAtMs > maxAgeMs) {
      this.askedAtMs = this.now();
      const answer = this.ask();
      this.answer = answer;
      // A failure is nobody's answer but of those who wait for it.
      answer.catch(() => {
        if (this.answer === answer) this.answer = undefined;
      });
    }
    const queue = (await this.answer).find((each) => each.agentType === agentType);
    return queue === undefined ? 0 : queue.queued + queue.running;
  }

  private async ask(): Promise<readonly QueueStatus[]> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const message = `the bus gave no answer within ${ANSWER_MS / 1_000} s; check bus.url and the network`;
      timer = setTimeout(() => reject(new LogUnavailableError(message, false)), ANSWER_MS);
    });
    try {
      return await Promise.race([this.log.status(), late]);
    } finally {
      clearTimeout(timer);
    }
  }
}
