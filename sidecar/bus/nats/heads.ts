/** Reads the heads of all keys; results stay where they are. */
import { AckPolicy, DeliverPolicy } from '@nats-io/jetstream';
import { type Msg, nanos } from '@nats-io/transport-node';
import type { BusConnection } from './connection.ts';
import { ackTokens } from './delivery.ts';
import { readEntry } from './keys.ts';
import { KEYS, publishersKeys } from './names.ts';
import type { TaskEntry } from './stored-task.ts';

const AT_ONCE = 2_000;

export interface HeadOptions {
  /** Only tasks of this publisher. */
  readonly publisher?: string | undefined;
  /** Only keys that were written from this sequence on. */
  readonly from?: number;
}

/** @param visit gets each key with its revision and without its result; reading ends when it returns false */
export async function eachHead(
  connection: BusConnection,
  { publisher, from = 1 }: HeadOptions,
  visit: (entry: TaskEntry) => boolean | undefined,
): Promise<void> {
  const name = `LIST_${Math.random().toString(36).slice(2)}`;
  await connection.manage((jsm) =>
    jsm.consumers.add(KEYS, {
      name,
      ...(publisher === undefined ? {} : { filter_subject: publishersKeys(publisher) }),
      ack_policy: AckPolicy.None,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: from,
      headers_only: true,
      inactive_threshold: nanos(30_000),
      mem_storage: true,
      num_replicas: 1,
    }),
  );
  let goesOn = true;
  const see = (message: Msg): void => {
    const { sequence } = ackTokens(message.reply ?? '');
    const entry = readEntry(message.subject, sequence, message.headers, new Uint8Array());
    if (goesOn && entry !== undefined && visit(entry) === false) goesOn = false;
  };
  try {
    const request = JSON.stringify({ batch: AT_ONCE, no_wait: true });
    for (let count = AT_ONCE; count === AT_ONCE && goesOn; )
      count = await connection.requestMany(
        `$JS.API.CONSUMER.MSG.NEXT.${KEYS}.${name}`,
        request,
        AT_ONCE,
        see,
      );
  } finally {
    await connection.manage((jsm) => jsm.consumers.delete(KEYS, name)).catch(() => {});
  }
}
