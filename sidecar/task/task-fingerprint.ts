/**
 * Whether two requests are the same task. A task id alone does not say so: agents reuse ids (for the parts of a task
 * that they hand on, or all their lives), and the answer to one question must not be given to another.
 */
import { createHash, hash } from 'node:crypto';
import { FieldReader, WireType } from './protobuf.ts';

/** `TaskRequest.metadata`. */
const METADATA_FIELD = 5;
const METADATA_TAG = METADATA_FIELD * 8 + WireType.BYTES;

/**
 * What of a call, besides its message, must be the same: its method, and who asks. An answer that one caller may see is
 * not replayed to another, so give all that tells callers apart (the name in the client's certificate, credentials in its
 * header fields), and nothing that changes from attempt to attempt (addresses, ports, timeouts).
 */
export function taskScope(method: string, ...who: readonly string[]): string {
  return hash('sha256', JSON.stringify([method, ...who]), 'base64');
}

/** Messages up to this size are their own fingerprints: a digest would cost more than it saves. */
const SHORT_BYTES = 256;
/** Behind the scope, so that no message looks like a digest. All of it is Latin-1: the store keeps it as bytes. */
const MESSAGE_MARK = '=';
const DIGEST_MARK = '#';
const READER_MARK = '~';

/**
 * The same for requests that say the same to the same method for the same caller: a short message itself, or SHA-256
 * over it, so that nobody can make another's. The entries of `metadata` may come in any order, as maps are written in
 * any.
 */
export function taskFingerprint(scope: string, message: Buffer, start: number, end: number): string {
  const parts = partsOf(message, start, end);
  if (parts === undefined) {
    if (end - start <= SHORT_BYTES) return joined(scope, message, start, end);
    return scope + DIGEST_MARK + hash('sha256', message.subarray(start, end), 'base64');
  }
  const digest = createHash('sha256');
  for (const part of parts.rest) digest.update(part);
  for (const entry of parts.entries.sort(Buffer.compare)) digest.update(entry);
  return scope + DIGEST_MARK + digest.digest('base64');
}

/** Of the same task, for those who can't read the answer that others get: they have one of their own, by what they accept. */
export function fingerprintFor(fingerprint: string, acceptedEncodings: readonly string[]): string {
  return fingerprint + READER_MARK + hash('sha256', acceptedEncodings.join(), 'base64');
}

const joint = Buffer.alloc(1_024);
let scopeInJoint = '';

/** In one piece from the start: to put strings together makes one more of each. */
function joined(scope: string, message: Buffer, start: number, end: number): string {
  const at = scope.length + MESSAGE_MARK.length;
  if (at > joint.length - SHORT_BYTES) return scope + MESSAGE_MARK + message.toString('latin1', start, end);
  if (scope !== scopeInJoint) {
    joint.write(scope + MESSAGE_MARK, 'latin1');
    scopeInJoint = scope;
  }
  message.copy(joint, at, start, end);
  return joint.toString('latin1', 0, at + end - start);
}

/** The message without its metadata, and the entries of that; undefined when there is nothing to put in order. */
function partsOf(
  message: Buffer,
  start: number,
  end: number,
): { rest: Buffer[]; entries: Buffer[] } | undefined {
  const entries: Buffer[] = [];
  const rest: Buffer[] = [];
  const reader = new FieldReader(message, start, end);
  let from = start;
  while (reader.next()) {
    if (reader.field !== METADATA_FIELD || reader.wireType !== WireType.BYTES) continue;
    const entryStart = reader.valueStart - prefixBytes(reader.valueEnd - reader.valueStart);
    // Written in a longer form than need be: no encoder does that, and byte by byte it is compared right, too.
    if (entryStart < from || message[entryStart] !== METADATA_TAG) return undefined;
    rest.push(message.subarray(from, entryStart));
    entries.push(message.subarray(entryStart, reader.valueEnd));
    from = reader.valueEnd;
  }
  if (reader.malformed || entries.length < 2) return undefined;
  rest.push(message.subarray(from, end));
  return { rest, entries };
}

/** What the tag and the length take before a field of so many bytes. */
function prefixBytes(length: number): number {
  let bytes = 2;
  for (let rest = length; rest >= 128; rest = Math.floor(rest / 128)) bytes++;
  return bytes;
}
