/**
 * Encodes an answer for the store, which reads nothing of it:
 *
 *     32 bytes: SHA-256 of the task, the place and all that follows │ 4 bytes: length of the head │ head: JSON in UTF-8 │ marks of the request │ the answer's body
 *
 * The digest finds a row that was damaged, cut, or moved to another task or question. Where the journal is sealed, so is the
 * digest, and nobody without the key can make one.
 */
import { createHash } from 'node:crypto';
import type { Print } from './body-print.ts';

/** Header fields as the agent received them. */
type AnswerFields = Readonly<Record<string, string | readonly string[]>>;

/** A whole answer. */
export interface Answer {
  readonly status: number;
  readonly fields: AnswerFields;
  readonly body: Buffer;
}

/** What a record says of its request: nothing of its text. */
interface AskedBefore {
  readonly method: string;
  readonly path: string;
  readonly print: Omit<Print, 'digest'>;
}

export interface JournalRecord {
  readonly answer: Answer;
  readonly asked: AskedBefore;
}

interface Head {
  readonly status: number;
  readonly fields: AnswerFields;
  readonly method: string;
  readonly path: string;
  readonly bytes: number;
  readonly marks: number;
}

/** Where a record belongs. */
export interface RecordPlace {
  readonly task: string;
  /** The request's digest and ordinal. */
  readonly place: string;
}

const DIGEST_BYTES = 32;
const LENGTH_BYTES = 4;
const HEAD_AT = DIGEST_BYTES + LENGTH_BYTES;

export function encodeRecord({ answer, asked }: JournalRecord, where: RecordPlace): Buffer {
  const { method, path, print } = asked;
  const head: Head = {
    status: answer.status,
    fields: answer.fields,
    method,
    path,
    bytes: print.bytes,
    marks: print.marks.length,
  };
  const json = Buffer.from(JSON.stringify(head));
  const start = Buffer.alloc(HEAD_AT);
  start.writeUInt32BE(json.length, DIGEST_BYTES);
  const record = Buffer.concat([start, json, print.marks, answer.body]);
  digestOf(record, where).copy(record);
  return record;
}

function digestOf(record: Buffer, { task, place }: RecordPlace): Buffer {
  const named = JSON.stringify([task, place]);
  return createHash('sha256')
    .update(`${named.length} ${named}`)
    .update(record.subarray(DIGEST_BYTES))
    .digest();
}

/** Undefined when the bytes are no record of this place: they are damaged, or another version has written them. */
export function decodeRecord(record: Buffer, where: RecordPlace): JournalRecord | undefined {
  try {
    if (!digestOf(record, where).equals(record.subarray(0, DIGEST_BYTES))) return undefined;
    const marksAt = HEAD_AT + record.readUInt32BE(DIGEST_BYTES);
    const head = JSON.parse(record.toString('utf8', HEAD_AT, marksAt)) as Head;
    const { status, fields, method, path, bytes, marks } = head;
    const isHead =
      Number.isInteger(status) &&
      typeof fields === 'object' &&
      typeof path === 'string' &&
      Number.isInteger(marks) &&
      marksAt + marks <= record.length;
    if (!isHead) return undefined;
    const bodyAt = marksAt + marks;
    return {
      answer: { status, fields, body: record.subarray(bodyAt) },
      asked: { method, path, print: { bytes, marks: record.subarray(marksAt, bodyAt) } },
    };
  } catch {
    return undefined;
  }
}
