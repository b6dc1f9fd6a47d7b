/**
 * Pulls of one lane. The server answers each with one request or with the word that none waits; a request comes under its own
 * subject, so that only its lane is known, and not which pull it answers: answers go to pulls in turn.
 */
import type { Msg, Subscription } from '@nats-io/transport-node';
import { LogUnavailableError } from '../log/log-errors.ts';
import type { BusConnection } from './connection.ts';
import { ANSWER_MS } from './dialing.ts';

const PULL_ONE = JSON.stringify({ batch: 1, no_wait: true });

interface Pull {
  readonly resolve: (message: Msg | undefined) => void;
  readonly timer: NodeJS.Timeout;
}

export class LanePulls {
  private readonly connection: BusConnection;
  private readonly subject: string;
  private readonly inbox: string;
  private readonly subscription: Subscription;
  private readonly onLate: (message: Msg) => void;
  private readonly pulls: Pull[] = [];

  /** @param onLate gets a request that nobody waits for any more */
  constructor(connection: BusConnection, stream: string, consumer: string, onLate: (message: Msg) => void) {
    this.connection = connection;
    this.subject = `$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`;
    this.onLate = onLate;
    this.inbox = connection.inbox();
    this.subscription = connection.subscribe(this.inbox, (message) => this.answered(message));
  }

  /** Undefined when nothing waits there. */
  pull(): Promise<Msg | undefined> {
    return this.connection.answer(
      () =>
        new Promise((resolve, reject) => {
          const timer = setTimeout(() => {
            this.forget(pull);
            reject(new LogUnavailableError('the bus gave no answer to a pull', false));
          }, ANSWER_MS);
          const pull: Pull = { resolve, timer };
          this.pulls.push(pull);
          this.connection.publish(this.subject, PULL_ONE, undefined, this.inbox);
        }),
    );
  }

  /** Nothing that was asked for will be answered. */
  reset(): void {
    for (const { timer } of this.pulls.splice(0)) clearTimeout(timer);
  }

  close(): void {
    this.reset();
    this.subscription.unsubscribe();
  }

  private answered(message: Msg): void {
    const pull = this.pulls.shift();
    const isRequest = (message.headers?.code ?? 0) === 0;
    if (pull === undefined) {
      if (isRequest) this.onLate(message);
      return;
    }
    clearTimeout(pull.timer);
    pull.resolve(isRequest ? message : undefined);
  }

  private forget(pull: Pull): void {
    const at = this.pulls.indexOf(pull);
    if (at >= 0) this.pulls.splice(at, 1);
  }
}
