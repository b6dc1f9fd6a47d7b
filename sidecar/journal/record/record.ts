/**
 * Encodes an answer for the store, which reads nothing of it:
 *
 *     4 bytes: length of the head │ head: JSON in UTF-8 │ marks of the request │ the answer's body
 */
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

const LENGTH_BYTES = 4;

export function encodeRecord({ answer, asked }: JournalRecord): Buffer {
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
  const length = Buffer.allocUnsafe(LENGTH_BYTES);
  length.writeUInt32BE(json.length);
  return Buffer.concat([length, json, print.marks, answer.body]);
}

/** Undefined when the bytes are no record: another version has written them. */
export function decodeRecord(payload: Buffer): JournalRecord | undefined {
  try {
    const marksAt = LENGTH_BYTES + payload.readUInt32BE();
    const head = JSON.parse(payload.toString('utf8', LENGTH_BYTES, marksAt)) as Head;
    const { status, fields, method, path, bytes, marks } = head;
    const isHead =
      Number.isInteger(status) &&
      typeof fields === 'object' &&
      typeof path === 'string' &&
      Number.isInteger(marks) &&
      marksAt + marks <= payload.length;
    if (!isHead) return undefined;
    const bodyAt = marksAt + marks;
    return {
      answer: { status, fields, body: payload.subarray(bodyAt) },
      asked: { method, path, print: { bytes, marks: payload.subarray(marksAt, bodyAt) } },
    };
  } catch {
    return undefined;
  }
}
