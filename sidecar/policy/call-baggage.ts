/**
 * Our member of W3C `baggage`, which names the inbound call that an agent's own call is made for. Pure.
 *
 *     caller ──▶ sidecar ──baggage: a=1,outrigger-call=ID──▶ agent
 *                   ◀── baggage: a=1,outrigger-call=ID ─────── its call to another agent, or to its model
 *     other ◀── baggage: a=1 ──┘
 *
 * OpenTelemetry's SDKs pass baggage on by default. Unlike `traceparent`, baggage decides neither whether an agent
 * records its spans nor which parent they have. The sidecar removes what a caller sends under our key, and our own
 * member never leaves the pod: an id names a call of this sidecar alone.
 *
 * An id is 24 hexadecimal digits: eight of this process, eight of the call's place among the running calls, and eight
 * random ones, so that nobody else can name a call.
 *
 * Source: W3C Baggage, "Header Content" and "Limits".
 */

export const BAGGAGE_HEADER = 'baggage';

const KEY = 'outrigger-call';
const PART_DIGITS = 8;
const ID_LENGTH = 3 * PART_DIGITS;

/** The length that every hop must be able to pass on. Longer baggage passes unchanged, without our member. */
const MAX_BAGGAGE_LENGTH = 8_192;

/** Our member, with zeros in place of the digits of a name's three numbers. */
export const EMPTY_MEMBER = `${KEY}=${'0'.repeat(ID_LENGTH)}`;
export const PROCESS_AT = KEY.length + 1;
export const PLACE_AT = PROCESS_AT + PART_DIGITS;
export const NONCE_AT = PLACE_AT + PART_DIGITS;

/** The three numbers in our member, of 32 bits each. */
export interface CallName {
  readonly process: number;
  readonly place: number;
  readonly nonce: number;
}

/** The call that baggage names; undefined when it names none. The first of several members counts. */
export function callNameIn(baggage: string): CallName | undefined {
  if (!mayHaveKey(baggage)) return undefined;
  for (const member of baggage.split(',')) {
    const equals = member.indexOf('=');
    if (equals < 0 || !isOurKey(member.slice(0, equals))) continue;
    const id = member
      .slice(equals + 1)
      .split(';', 1)[0]!
      .trim();
    if (!/^[\da-f]{24}$/.test(id)) continue;
    const part = (at: number) => Number.parseInt(id.slice(at, at + PART_DIGITS), 16) | 0;
    return { process: part(0), place: part(PART_DIGITS), nonce: part(2 * PART_DIGITS) };
  }
  return undefined;
}

/** Baggage without our member; the same text when it has none. */
export function withoutCall(baggage: string): string {
  if (!mayHaveKey(baggage)) return baggage;
  const members = baggage.split(',');
  const others = members.filter((member) => {
    const end = /[=;]|$/.exec(member)!.index;
    return !isOurKey(member.slice(0, end));
  });
  return others.length === members.length ? baggage : others.join(',').trim();
}

/** Baggage with `member` at its end, if the limit allows it, and without what a caller has put under our key. */
export function withCall(baggage: string, member: string): string {
  const others = withoutCall(baggage);
  if (others === '') return member;
  const both = `${others},${member}`;
  return both.length > MAX_BAGGAGE_LENGTH ? others : both;
}

/** Whether the text is worth parsing. */
function mayHaveKey(baggage: string): boolean {
  return baggage.includes(KEY) || baggage.includes('%');
}

/** SDKs decode keys before they pass them on, and some read a plus as a blank. */
function isOurKey(text: string): boolean {
  const key = text.trim();
  if (key === KEY || !key.includes('%')) return key === KEY;
  const decoded = key.replaceAll(/%([\da-f]{2})/gi, (_, digits) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  );
  return decoded.replaceAll('+', ' ').trim() === KEY;
}
