/** Stores and reads messages of streams over the link to the NATS servers. */
import { JetStreamApiError } from '@nats-io/jetstream';
import { headers, type Msg, type MsgHdrs } from '@nats-io/transport-node';
import { LogUnavailableError } from '../log/log-errors.ts';
import { BusLink } from './link.ts';

/** Another has written the subject in between; the second code says that the last sequence isn't known. */
const WRONG_SEQUENCE: ReadonlySet<number> = new Set([10_071, 10_164]);

/** Of messages that are read at once. */
const BATCH_BYTES = 4 * 1024 * 1024;

/** A message that was read from a stream. */
export interface Stored {
  readonly subject: string;
  readonly seq: number;
  readonly timeMs: number;
  readonly headers: MsgHdrs;
  readonly data: Uint8Array;
}

export class BusConnection extends BusLink {
  /** Stores a message. The server knows `id` again. Rejects with JetStreamApiError when it refuses. */
  async store(
    subject: string,
    body: Uint8Array,
    fields: MsgHdrs | undefined,
    id?: string,
  ): Promise<{ readonly sequence: number; readonly duplicate: boolean }> {
    const head = fields ?? headers();
    if (id !== undefined) head.set('Nats-Msg-Id', id);
    const ack = readAck(await this.request(subject, body, head));
    return { sequence: ack.seq, duplicate: ack.duplicate === true };
  }

  /** Stores a message where `revision` is the subject's last; undefined where it isn't. */
  async storeAt(
    subject: string,
    body: Uint8Array,
    fields: MsgHdrs,
    revision: number,
    keptMs?: number,
  ): Promise<number | undefined> {
    fields.set('Nats-Expected-Last-Subject-Sequence', String(revision));
    // The server counts in seconds, from 1.
    if (keptMs !== undefined && Number.isFinite(keptMs))
      fields.set('Nats-TTL', `${Math.max(1, Math.ceil(keptMs / 1_000))}s`);
    try {
      return readAck(await this.request(subject, body, fields)).seq;
    } catch (error) {
      if (error instanceof JetStreamApiError && WRONG_SEQUENCE.has(error.code)) return undefined;
      throw error;
    }
  }

  /** The last message of a subject. */
  directLast(stream: string, subject: string): Promise<Stored | undefined> {
    return this.direct(`$JS.API.DIRECT.GET.${stream}.${subject}`, '');
  }

  directGet(
    stream: string,
    query: { readonly seq: number; readonly next_by_subj?: string } | { readonly last_by_subj: string },
  ): Promise<Stored | undefined> {
    return this.direct(`$JS.API.DIRECT.GET.${stream}`, JSON.stringify(query));
  }

  /** The last message of each of these subjects. */
  async directLasts(stream: string, subjects: string): Promise<readonly Stored[]> {
    const found: Stored[] = [];
    const query = JSON.stringify({ multi_last: [subjects], batch: 1_024 });
    await this.requestMany(`$JS.API.DIRECT.GET.${stream}`, query, Number.POSITIVE_INFINITY, (answer) => {
      found.push(toStored(answer));
    });
    return found;
  }

  /** Messages of a subject from a sequence on, at most `batch` of them; the first one however large it is. */
  async directBatch(
    stream: string,
    subject: string,
    from: number,
    batch: number,
    maxBytes = BATCH_BYTES,
  ): Promise<readonly Stored[]> {
    const found: Stored[] = [];
    const query = JSON.stringify({ seq: from, next_by_subj: subject, batch, max_bytes: maxBytes });
    await this.requestMany(`$JS.API.DIRECT.GET.${stream}`, query, Number.POSITIVE_INFINITY, (answer) => {
      found.push(toStored(answer));
    });
    return found;
  }

  private async direct(subject: string, query: string): Promise<Stored | undefined> {
    const answer = await this.request(subject, query);
    const { headers: fields } = answer;
    if (fields === undefined || fields.code === 404) return undefined;
    if (fields.code !== 0)
      throw new LogUnavailableError(`the bus gave no message (${fields.code} ${fields.description})`, false);
    return toStored(answer);
  }
}

function toStored({ headers: fields, data }: Msg): Stored {
  return {
    subject: fields!.get('Nats-Subject'),
    seq: Number(fields!.get('Nats-Sequence')),
    timeMs: Date.parse(fields!.get('Nats-Time-Stamp')),
    headers: fields!,
    data,
  };
}

interface Ack {
  readonly seq: number;
  readonly duplicate?: boolean;
  readonly error?: { readonly code: number; readonly err_code: number; readonly description: string };
}

/** The stream takes no more: the description says which limit it has reached. */
export const STREAM_FULL = 10_077;

function readAck(answer: Msg): Ack {
  const ack = answer.json<Ack>();
  const { error } = ack;
  if (error === undefined) return ack;
  if (error.code >= 500 && error.err_code !== STREAM_FULL)
    throw new LogUnavailableError(`the bus stored nothing (${error.description})`, false);
  throw new JetStreamApiError(error);
}
