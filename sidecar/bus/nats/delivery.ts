/** Requests in a queue, and as the server hands them out. */
import type { Msg } from '@nats-io/transport-node';
import type { Wanted } from '../log/wanted.ts';
import type { Stored } from './connection.ts';
import { bytesOf, readHead } from './head.ts';
import { partiesOf } from './names.ts';

/** These fields travel with a request. */
export interface QueuedHead {
  readonly key: string;
  readonly digest: string;
  readonly generation: number;
  /** Of the key when it was queued. */
  readonly revision: number;
  readonly submittedAtMs: number;
  /** null for none. */
  readonly deadlineAtMs: number | null;
  readonly wanted: Wanted;
  readonly requestBytes: number;
  /** Names the request's parts; '' where it is here. */
  readonly large: string;
}

/** A request as it lies in the queue. */
export interface QueuedTask extends QueuedHead {
  readonly agentType: string;
  readonly caller: string;
  readonly publisher: string;
  readonly sequence: number;
  /** The request, unless large. */
  readonly body: Buffer;
}

/** A request that the server has handed to us, until it is acknowledged. */
export interface Delivery extends QueuedTask {
  readonly lane: number;
  /** Acknowledgements go to this subject. */
  readonly reply: string;
  readonly redelivered: boolean;
  /** How many more wait in its lane. */
  readonly pending: number;
}

/** Undefined for a message that is none of ours. */
export function readDelivery(agentType: string, lane: number, message: Msg): Delivery | undefined {
  const head = readHead<QueuedHead>(message.headers);
  const { reply } = message;
  if (head === undefined || reply === undefined) return undefined;
  return {
    ...head,
    ...partiesOf(message.subject),
    agentType,
    lane,
    reply,
    ...ackTokens(reply),
    body: bytesOf(message.data),
  };
}

export function readQueued(agentType: string, stored: Stored): QueuedTask | undefined {
  const head = readHead<QueuedHead>(stored.headers);
  if (head === undefined) return undefined;
  const { seq, subject, data } = stored;
  return {
    ...head,
    ...partiesOf(subject),
    agentType,
    sequence: seq,
    body: bytesOf(data),
  };
}

/** Reads what the server says in the address for acknowledgements. */
export function ackTokens(reply: string): Pick<Delivery, 'redelivered' | 'sequence' | 'pending'> {
  // $JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.…TIME.PENDING, or with domain and account before the stream.
  const tokens = reply.split('.');
  const at = tokens.length >= 11 ? 6 : 4;
  return {
    redelivered: Number(tokens[at]) > 1,
    sequence: Number(tokens[at + 1]),
    pending: Number(tokens[at + 4]),
  };
}
