/**
 * Trace context in headers: W3C `traceparent` and `tracestate` (W3C Trace Context), and the binary `grpc-trace-bin`
 * that earlier gRPC libraries send (OpenCensus' BinaryEncoding). Pure and strict: a malformed context counts as absent,
 * because a context read in part would join unrelated calls. The sidecar reads it without tracing, too, to find the
 * owner of an outbound call.
 */

/** The one flag that we act on (W3C Trace Context §3.2.2.5). */
export const SAMPLED = 1;
/**
 * The trace id ends with 56 random bits; each hop passes this flag on (W3C Trace Context Level 2, "Random Trace ID
 * Flag").
 */
export const RANDOM = 2;

/** The result of `parseTraceparent` for text that is no trace context. */
export const NO_CONTEXT = -1;

const TRACEPARENT_LENGTH = 55;
const TRACE_ID_AT = 3;
const SPAN_ID_AT = 36;
const FLAGS_AT = 53;
const DASH = 0x2d;

/** Value of a lower-case hexadecimal digit; 16 for every other character: upper case is malformed (§3.2.2.2). */
const HEX_VALUES = new Uint8Array(256).fill(16);
for (let i = 0; i < 16; i++) HEX_VALUES['0123456789abcdef'.charCodeAt(i)] = i;

/**
 * Validates a `traceparent` and returns its flags, 0 to 255, or NO_CONTEXT. Allocates nothing: `traceIdOf` and
 * `spanIdOf` read the ids from the text on demand.
 *
 * A version above 00 is parsed by the rules of version 00, and may have more text after the flags (§3.2.4).
 */
export function parseTraceparent(text: string): number {
  const { length } = text;
  if (length < TRACEPARENT_LENGTH) return NO_CONTEXT;
  const version = hexByte(text, 0);
  if (version < 0 || version === 0xff) return NO_CONTEXT;
  if (length > TRACEPARENT_LENGTH) {
    if (version === 0 || text.charCodeAt(TRACEPARENT_LENGTH) !== DASH) return NO_CONTEXT;
  }
  if (text.charCodeAt(2) !== DASH || text.charCodeAt(35) !== DASH || text.charCodeAt(52) !== DASH) {
    return NO_CONTEXT;
  }
  if (!isId(text, TRACE_ID_AT, 35) || !isId(text, SPAN_ID_AT, 52)) return NO_CONTEXT;
  return hexByte(text, FLAGS_AT);
}

/** The trace id of a `traceparent` that `parseTraceparent` has accepted. */
export function traceIdOf(traceparent: string): string {
  return traceparent.slice(TRACE_ID_AT, 35);
}

/** The span id of a `traceparent` that `parseTraceparent` has accepted. */
export function spanIdOf(traceparent: string): string {
  return traceparent.slice(SPAN_ID_AT, 52);
}

export function formatTraceparent(traceId: string, spanId: string, sampled: boolean): string {
  return `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`;
}

/** One byte from two hexadecimal digits, or -1. */
function hexByte(text: string, at: number): number {
  const value = hexValue(text, at) * 16 + hexValue(text, at + 1);
  return hexValue(text, at) > 15 || hexValue(text, at + 1) > 15 ? NO_CONTEXT : value;
}

function hexValue(text: string, at: number): number {
  const code = text.charCodeAt(at);
  return code < 256 ? HEX_VALUES[code]! : 16;
}

/** Hexadecimal digits that are not all zero (§3.2.2.3, §3.2.2.4). */
function isId(text: string, start: number, end: number): boolean {
  let any = 0;
  for (let i = start; i < end; i++) {
    const value = hexValue(text, i);
    if (value > 15) return false;
    any |= value;
  }
  return any !== 0;
}

const BINARY_BYTES = 29;

/**
 * Converts a `grpc-trace-bin` to a `traceparent`; undefined for a malformed one. The bytes are a version of 0 and three
 * fields: 0 with the trace id, 1 with the span id, 2 with the flags.
 *
 * @param text base64, with padding or without, as gRPC sends `-bin` metadata; the first of several values counts
 */
export function traceparentFromBinary(text: string): string | undefined {
  const comma = text.indexOf(',');
  const first = comma < 0 ? text : text.slice(0, comma);
  if (first.length < 39 || first.length > 64) return undefined;
  const bytes = Buffer.from(first, 'base64');
  if (bytes.length < BINARY_BYTES) return undefined;
  if (bytes[0] !== 0 || bytes[1] !== 0 || bytes[18] !== 1 || bytes[27] !== 2) return undefined;
  const traceId = bytes.toString('hex', 2, 18);
  const spanId = bytes.toString('hex', 19, 27);
  const traceparent = formatTraceparent(traceId, spanId, (bytes[28]! & SAMPLED) !== 0);
  return parseTraceparent(traceparent) === NO_CONTEXT ? undefined : traceparent;
}

/** Members of a `tracestate` (§3.3.1.1). */
const MAX_MEMBERS = 32;
/** Every hop must pass on this much (§3.3.1.5); this sidecar passes on no more. */
const MAX_TRACESTATE_LENGTH = 512;
/** A list that is too long loses its long members first (§3.3.1.5). */
const LONG_MEMBER_LENGTH = 128;

const KEY = /^(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})$/;
const VALUE = /^[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/;

/**
 * The `tracestate` to pass on: unchanged when it is well formed and within its limits, without its longest or last
 * members when it is too long, and '' when it is malformed, which makes all of it invalid (§3.3.1).
 *
 * @param text one header's value, or several joined by commas in their order (§3.3.1.4)
 */
export function cleanTracestate(text: string): string {
  // A list this far above every limit needs no parsing.
  if (text.length > MAX_MEMBERS * 520) return '';
  const members: string[] = [];
  const keys = new Set<string>();
  for (const part of text.split(',')) {
    const member = part.trim();
    if (member === '') continue;
    const equals = member.indexOf('=');
    const key = member.slice(0, equals);
    if (equals < 0 || !KEY.test(key) || !VALUE.test(member.slice(equals + 1))) return '';
    if (keys.has(key)) return '';
    keys.add(key);
    members.push(member);
  }
  if (members.length > MAX_MEMBERS) return '';
  if (text.length <= MAX_TRACESTATE_LENGTH) return text;
  return shorten(members);
}

function shorten(members: string[]): string {
  let length = members.reduce((sum, member) => sum + member.length + 1, -1);
  for (let i = members.length - 1; i >= 0 && length > MAX_TRACESTATE_LENGTH; i--) {
    if (members[i]!.length <= LONG_MEMBER_LENGTH) continue;
    length -= members[i]!.length + 1;
    members.splice(i, 1);
  }
  while (length > MAX_TRACESTATE_LENGTH) length -= members.pop()!.length + 1;
  return members.join(',');
}
