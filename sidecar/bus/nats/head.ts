/** Heads of stored messages: a JSON object in one header field, so that tasks can be listed without their bodies. */
import { headers, type MsgHdrs } from '@nats-io/transport-node';

const FIELD = 'Outrigger';

export function headOf(value: object): MsgHdrs {
  const fields = headers();
  // Fields are ASCII: everything else is escaped.
  const json = JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  fields.set(FIELD, json);
  return fields;
}

/** Undefined when the message is none of ours. */
export function readHead<T>(fields: MsgHdrs | undefined): T | undefined {
  const text = fields?.get(FIELD);
  if (text === undefined || text === '') return undefined;
  try {
    return JSON.parse(text) as T;
  } catch {
    return undefined;
  }
}

/** The bytes of a message, without a copy. */
export function bytesOf(data: Uint8Array): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}
