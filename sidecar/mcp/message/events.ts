/** Reads and writes server-sent events that carry messages (WHATWG HTML, section 9.2.6). Pure. */
import { type Json, type JsonObject, parseJson } from './json-rpc.ts';

export interface ServerEvent {
  /** '' without one; a client may resume after it. */
  readonly id: string;
  /** Undefined where the event carries no JSON. */
  readonly json: Json | undefined;
}

export function readEvent(text: string): ServerEvent {
  let id = '';
  let data: string | undefined;
  for (const line of text.split(/\r\n|\n|\r/)) {
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    if (name !== 'data' && name !== 'id') continue;
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (name === 'id') id = value;
    else data = data === undefined ? value : `${data}\n${value}`;
  }
  return { id, json: data === undefined || data === '' ? undefined : parseJson(data) };
}

/** @param id '' for none */
export function eventOf(message: JsonObject | readonly Json[], id = ''): Buffer {
  return Buffer.from(`event: message\n${id === '' ? '' : `id: ${id}\n`}data: ${JSON.stringify(message)}\n\n`);
}
