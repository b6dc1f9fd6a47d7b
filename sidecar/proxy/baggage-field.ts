/** Writes the `baggage` field that names an inbound call to the app (`policy/call-baggage.ts`). */
import { literalSize, writeLiteral } from '../http2/hpack/encoder.ts';
import {
  BAGGAGE_HEADER,
  EMPTY_MEMBER,
  NONCE_AT,
  PLACE_AT,
  PROCESS_AT,
  withCall,
  withoutCall,
} from '../policy/call-baggage.ts';
import { writeHex } from '../telemetry/ids.ts';
import type { CallWith } from './call-facts.ts';

/** The fields that the name is made of. */
type NamedCall = CallWith<'context' | 'lineage'>;

/** `baggage` with our member alone, as a literal that may follow any header block (RFC 7541 §6.2.2). */
const field = Buffer.allocUnsafeSlow(literalSize(BAGGAGE_HEADER, EMPTY_MEMBER));
writeLiteral(field, 0, BAGGAGE_HEADER, EMPTY_MEMBER);
/** Where the value begins in the field. */
const VALUE_AT = field.length - EMPTY_MEMBER.length;

/** Room that later hops need in a head. A call must not fail because our member used up the app's limit. */
const ROOM_BYTES = 512;

/** Whether the call has a name, and its head has room for it. */
export function isNamed(call: CallWith<'lineage' | 'requestHeadBytes'>, maxHeaderListBytes: number): boolean {
  return call.lineage.nonce !== 0 && call.requestHeadBytes + ROOM_BYTES <= maxHeaderListBytes;
}

/**
 * The name of an inbound call as an encoded field, for the app to pass on. Nearly all named calls use it. The next call
 * overwrites the buffer, so use it at once.
 */
export function callNameField({ context, lineage }: NamedCall): Buffer {
  writeHex(field, VALUE_AT + PROCESS_AT, context.inboundCalls.process);
  writeHex(field, VALUE_AT + PLACE_AT, lineage.place);
  writeHex(field, VALUE_AT + NONCE_AT, lineage.nonce);
  return field;
}

/** The `baggage` value that goes upstream in place of the received one. */
export function baggageFor(call: NamedCall, baggage: string, named: boolean): string {
  if (!named) return withoutCall(baggage);
  return withCall(baggage, callNameField(call).toString('latin1', VALUE_AT));
}
