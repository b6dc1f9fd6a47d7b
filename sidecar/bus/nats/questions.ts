/**
 * Messages that ask the server for one answer each. Their answers share one inbox, and their patience one timer: a task makes
 * several of them, and a timer and an error object for each would be half of its cost.
 */
import type { Msg, MsgHdrs, NatsConnection, PermissionViolationError } from '@nats-io/transport-node';
import { LogUnavailableError } from '../log/log-errors.ts';
import { ANSWER_MS } from './dialing.ts';
import { asUnavailable, forbidden } from './link-errors.ts';
import { lastToken } from './names.ts';

const NO_RESPONDERS = 503;

interface Question {
  readonly subject: string;
  readonly endMs: number;
  readonly resolve: (answer: Msg) => void;
  readonly reject: (error: unknown) => void;
}

export class Questions {
  private readonly nc: NatsConnection;
  private readonly inbox: string;
  /** In the order in which they were asked. */
  private readonly waiting = new Map<string, Question>();
  private asked = 0;
  private timer: NodeJS.Timeout | undefined;

  /** @param inbox that nobody else listens at */
  constructor(nc: NatsConnection, inbox: string) {
    this.nc = nc;
    this.inbox = `${inbox}.`;
    nc.subscribe(`${inbox}.*`, {
      callback: (error, message) => {
        if (error === null) this.answered(message);
      },
    });
  }

  /** Rejects with LogUnavailableError when no answer comes. */
  ask(subject: string, body: Uint8Array | string, headers: MsgHdrs | undefined): Promise<Msg> {
    return new Promise((resolve, reject) => {
      const token = (++this.asked).toString(36);
      const reply = this.inbox + token;
      try {
        this.nc.publish(subject, body, headers === undefined ? { reply } : { reply, headers });
      } catch (error) {
        reject(asUnavailable(error));
        return;
      }
      this.waiting.set(token, { subject, endMs: performance.now() + ANSWER_MS, resolve, reject });
      this.timer ??= setTimeout(() => this.giveUpLate(), ANSWER_MS);
    });
  }

  /** None of them will be answered. */
  fail(error: unknown): void {
    const all = [...this.waiting.values()];
    this.waiting.clear();
    clearTimeout(this.timer);
    this.timer = undefined;
    for (const { reject } of all) reject(error);
  }

  /** The server does not take such messages from us. */
  forbid(denied: PermissionViolationError): void {
    if (denied.operation !== 'publish') return;
    for (const [token, { subject, reject }] of this.waiting) {
      if (subject !== denied.subject) continue;
      this.waiting.delete(token);
      reject(forbidden(denied));
    }
  }

  private answered(answer: Msg): void {
    const token = lastToken(answer.subject);
    const question = this.waiting.get(token);
    if (question === undefined) return;
    this.waiting.delete(token);
    if (answer.data.length === 0 && answer.headers?.code === NO_RESPONDERS)
      question.reject(new LogUnavailableError('the bus gave no answer (no stream is there for it)', false));
    else question.resolve(answer);
  }

  private giveUpLate(): void {
    this.timer = undefined;
    const nowMs = performance.now();
    for (const [token, { endMs, reject }] of this.waiting) {
      if (endMs > nowMs) {
        this.timer = setTimeout(() => this.giveUpLate(), Math.max(1, endMs - nowMs));
        return;
      }
      this.waiting.delete(token);
      reject(new LogUnavailableError('the bus gave no answer in time', true));
    }
  }
}
