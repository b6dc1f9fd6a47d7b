/** Asks the server for many answers to one message. */
import type { Msg, NatsConnection } from '@nats-io/transport-node';
import { ANSWER_MS } from './dialing.ts';

/** Statuses that end many answers: end of batch, none, time is over. */
const NO_MORE: ReadonlySet<number> = new Set([204, 404, 408]);

/**
 * @param inbox that nobody else listens at
 * @returns how many there were: up to `most`, or until the server's word that there are no more
 */
export async function askMany(
  nc: NatsConnection,
  inbox: string,
  subject: string,
  body: string,
  most: number,
  visit: (answer: Msg) => void,
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  let count = 0;
  let timer: NodeJS.Timeout | undefined;
  const wait = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => reject(new Error('timeout')), ANSWER_MS);
  };
  const subscription = nc.subscribe(inbox, {
    callback: (error, answer) => {
      if (error !== null) return reject(error);
      const { code = 0, description = '' } = answer.headers ?? {};
      if (code !== 0) {
        if (NO_MORE.has(code)) resolve(count);
        else reject(new Error(`${code} ${description}`));
        return;
      }
      wait();
      visit(answer);
      count++;
      if (count >= most) resolve(count);
    },
  });
  try {
    nc.publish(subject, body, { reply: inbox });
    wait();
    return await promise;
  } finally {
    clearTimeout(timer);
    subscription.unsubscribe();
  }
}
