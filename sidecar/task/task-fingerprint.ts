/**
 * Computes the fingerprint of a task: two requests with one fingerprint are the same task. A task id alone is not enough:
 * agents reuse ids (for the parts of a task that they delegate, or always), and the answer to one request must not be given
 * to another.
 */
import { createHash, hash } from 'node:crypto';
import { HASH_SEED, hashOf, hashOfUnits, mixed } from '../collections/churn-map.ts';
import { FieldReader, WireType } from './protobuf.ts';

/** `TaskRequest.metadata`. */
const METADATA_FIELD = 5;
const METADATA_TAG = METADATA_FIELD * 8 + WireType.BYTES;

/**
 * Returns a digest of the method and the caller, which must be equal for the same task. An answer to one caller is never
 * replayed to another, so pass all that tells callers apart (the name in the client's certificate, credentials in its
 * header fields), and nothing that changes between attempts (addresses, ports, timeouts).
 */
export function taskScope(method: string, ...who: readonly string[]): string {
  return hash('sha256', JSON.stringify([method, ...who]), 'base64');
}

/** Messages up to this size are part of the fingerprint: a digest would cost more than it saves. */
const SHORT_BYTES = 256;
/** Marks after the scope, so that no message looks like a digest. Fingerprints are Latin-1: the store keeps them as bytes. */
const MESSAGE_MARK = '=';
const DIGEST_MARK = '#';
const READER_MARK = '~';

/** Equal tasks have equal texts. */
export interface Fingerprint {
  readonly text: string;
  /** Equal for equal texts that were made in the same way. */
  readonly hash: number;
}

/** Makes a fingerprint of another text. */
export function fingerprintOf(text: string): Fingerprint {
  return { text, hash: hashOf(text) };
}

/**
 * Returns equal fingerprints for equal requests to the same method by the same caller: with a short message itself, or with its
 * SHA-256, so that no caller can forge another's. The order of the entries of `metadata` does not matter, because encoders
 * write maps in any order.
 */
export function taskFingerprint(scope: string, message: Buffer, start: number, end: number): Fingerprint {
  const parts = partsOf(message, start, end);
  if (parts === undefined) {
    if (end - start <= SHORT_BYTES) return joined(scope, message, start, end);
    return fingerprintOf(scope + DIGEST_MARK + hash('sha256', message.subarray(start, end), 'base64'));
  }
  const digest = createHash('sha256');
  for (const part of parts.rest) digest.update(part);
  for (const entry of parts.entries.sort(Buffer.compare)) digest.update(entry);
  return fingerprintOf(scope + DIGEST_MARK + digest.digest('base64'));
}

/** Returns a separate fingerprint for callers that can't read the answer of the others, by the encodings that they accept. */
export function fingerprintFor({ text }: Fingerprint, acceptedEncodings: readonly string[]): Fingerprint {
  return fingerprintOf(text + READER_MARK + hash('sha256', acceptedEncodings.join(), 'base64'));
}

const joint = Buffer.alloc(1_024);
const units = new Uint16Array(joint.buffer, joint.byteOffset, joint.length / 2);
let scopeInJoint = '';
/** Of the units that have bytes of the scope alone. */
let scopeHash = 0;

/** Builds the fingerprint as one string: a concatenation would create additional strings. Its hash is that of the bytes. */
function joined(scope: string, message: Buffer, start: number, end: number): Fingerprint {
  const at = scope.length + MESSAGE_MARK.length;
  if (at > joint.length - SHORT_BYTES - 1)
    return fingerprintOf(scope + MESSAGE_MARK + message.toString('latin1', start, end));
  const scopeUnits = scope.length >> 1;
  if (scope !== scopeInJoint) {
    joint.write(scope + MESSAGE_MARK, 'latin1');
    scopeInJoint = scope;
    scopeHash = hashOfUnits(units, 0, scopeUnits, HASH_SEED);
  }
  const length = at + end - start;
  message.copy(joint, at, start, end);
  joint[length] = 0;
  const hash = hashOfUnits(units, scopeUnits, (length + 1) >> 1, scopeHash);
  return { text: joint.toString('latin1', 0, length), hash: mixed(hash) };
}

const reader = new FieldReader(joint, 0, 0);

/** Splits the message into the entries of its metadata and the rest; undefined when there is nothing to sort. */
function partsOf(
  message: Buffer,
  start: number,
  end: number,
): { rest: Buffer[]; entries: Buffer[] } | undefined {
  const entries: Buffer[] = [];
  const rest: Buffer[] = [];
  reader.open(message, start, end);
  let from = start;
  while (reader.next()) {
    if (reader.field !== METADATA_FIELD || reader.wireType !== WireType.BYTES) continue;
    const entryStart = reader.valueStart - prefixBytes(reader.valueEnd - reader.valueStart);
    // The tag or length has a non-minimal encoding: no encoder writes that, and comparing all bytes is correct, too.
    if (entryStart < from || message[entryStart] !== METADATA_TAG) return undefined;
    rest.push(message.subarray(from, entryStart));
    entries.push(message.subarray(entryStart, reader.valueEnd));
    from = reader.valueEnd;
  }
  if (reader.malformed || entries.length < 2) return undefined;
  rest.push(message.subarray(from, end));
  return { rest, entries };
}

/** Returns the size of tag and length before a field of `length` bytes. */
function prefixBytes(length: number): number {
  let bytes = 2;
  for (let rest = length; rest >= 128; rest = Math.floor(rest / 128)) bytes++;
  return bytes;
}
