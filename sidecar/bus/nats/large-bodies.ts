/** Bodies above the limit of one message: stored in parts under a subject of their own, which names this attempt. */
import type { BusConnection } from './connection.ts';
import { bytesOf } from './head.ts';
import { writeId } from './stored-task.ts';

const PARTS_AT_ONCE = 16;
const PART_BYTES = 512 * 1024;
/** For the fields of a message, which the server counts too. */
const FIELDS_BYTES = 32 * 1024;

export class LargeBodies {
  private readonly connection: BusConnection;
  private readonly stream: string;

  constructor(connection: BusConnection, stream: string) {
    this.connection = connection;
    this.stream = stream;
  }

  isLarge(body: Uint8Array): boolean {
    return body.length > this.connection.maxPayload - FIELDS_BYTES;
  }

  /**
   * Stores a body, and returns the id that names its parts. Each attempt has an id of its own: what one that failed has left is
   * swept.
   */
  async put(subjectOf: (id: string) => string, body: Buffer, untilMs: number): Promise<string> {
    const partBytes = Math.min(PART_BYTES, this.connection.maxPayload - FIELDS_BYTES);
    return this.connection.persist(untilMs, async () => {
      const id = writeId();
      for (let from = 0; from < body.length; from += partBytes)
        await this.connection.store(subjectOf(id), body.subarray(from, from + partBytes), undefined);
      return id;
    });
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
