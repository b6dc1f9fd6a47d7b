/** Bodies that are too large for one message, or for those who would get it: stored in parts under a subject of their own, which names this attempt. */
import { ANSWER_PIECE_BYTES } from '../log/task-log.ts';
import type { BusConnection } from './connection.ts';
import { bytesOf } from './head.ts';
import { writeId } from './stored-task.ts';

const PARTS_AT_ONCE = 16;
/** For the fields of a message, which the server counts too. */
const FIELDS_BYTES = 32 * 1024;

export class LargeBodies {
  private readonly connection: BusConnection;
  private readonly stream: string;
  private readonly mostBytes: number;

  /** @param mostBytes a larger body has parts, also where a message could hold it */
  constructor(connection: BusConnection, stream: string, mostBytes: number) {
    this.connection = connection;
    this.stream = stream;
    this.mostBytes = mostBytes;
  }

  isLarge(body: Uint8Array): boolean {
    return body.length > Math.min(this.mostBytes, this.connection.maxPayload - FIELDS_BYTES);
  }

  /**
   * Stores a body, and returns the id that names its parts. Each attempt has an id of its own: what one that failed has left is
   * swept.
   */
  async put(subjectOf: (id: string) => string, body: Buffer, untilMs: number): Promise<string> {
    const partBytes = Math.min(ANSWER_PIECE_BYTES, this.connection.maxPayload - FIELDS_BYTES);
    return this.connection.persist(untilMs, async () => {
      const id = writeId();
      for (let from = 0; from < body.length; from += partBytes)
        await this.connection.store(subjectOf(id), body.subarray(from, from + partBytes), undefined);
      return id;
    });
  }

  /** One part after the other, each when it is asked for; none when the body is no longer there. */
  async *parts(subject: string): AsyncGenerator<Buffer> {
    for (let from = 1; ; ) {
      const [part] = await this.connection.directBatch(this.stream, subject, from, 1);
      if (part === undefined) return;
      yield bytesOf(part.data);
      from = part.seq + 1;
    }
  }

  /** Undefined when it is no longer there. */
  async get(subject: string): Promise<Buffer | undefined> {
    const parts: Buffer[] = [];
    for (let from = 1; ; ) {
      const found = await this.connection.directBatch(this.stream, subject, from, PARTS_AT_ONCE);
      if (found.length === 0) break;
      for (const part of found) parts.push(bytesOf(part.data));
      from = found.at(-1)!.seq + 1;
    }
    return parts.length === 0 ? undefined : Buffer.concat(parts);
  }

  async remove(subject: string): Promise<void> {
    await this.connection.manage((jsm) => jsm.streams.purge(this.stream, { filter: subject }));
  }
}
