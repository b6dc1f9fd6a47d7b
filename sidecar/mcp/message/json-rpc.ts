/** Reads and writes the messages of JSON-RPC 2.0 as MCP uses them. Pure. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };
export type Id = string | number;

export interface RequestMessage {
  readonly kind: 'request';
  readonly id: Id;
  readonly method: string;
  readonly params: JsonObject;
}

interface Notification {
  readonly kind: 'notification';
  readonly method: string;
  readonly params: JsonObject;
}

/** The answer to a request, with a result or an error. */
interface Response {
  readonly kind: 'response';
  /** Undefined where the peer could not tell which request it answers. */
  readonly id: Id | undefined;
  readonly result: JsonObject | undefined;
  readonly error: JsonObject | undefined;
}

export type Message = RequestMessage | Notification | Response;

/** JSON-RPC 2.0, section 5.1, and the codes that MCP adds. */
export const ErrorCode = {
  PARSE: -32_700,
  INVALID_REQUEST: -32_600,
  INVALID_PARAMS: -32_602,
  /** Of the implementation. */
  OURS: -32_000,
  /** A header of the revision 2026-07-28 says something else than the body. */
  HEADER_MISMATCH: -32_020,
} as const;

/** Undefined for what is no JSON. */
export function parseJson(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Undefined for what is no message. */
export function messageOf(value: Json | undefined): Message | undefined {
  if (!isObject(value) || value['jsonrpc'] !== '2.0') return undefined;
  const { id, method, params, result, error } = value;
  const hasId = typeof id === 'string' || typeof id === 'number';
  if (typeof method === 'string') {
    const named = isObject(params) ? params : {};
    if (hasId) return { kind: 'request', id, method, params: named };
    return id === undefined ? { kind: 'notification', method, params: named } : undefined;
  }
  if (method !== undefined || (result === undefined && error === undefined)) return undefined;
  return {
    kind: 'response',
    id: hasId ? id : undefined,
    result: isObject(result) ? result : undefined,
    error: isObject(error) ? error : undefined,
  };
}

/** Ids `1` and `'1'` are two. */
export function idKey(id: Id): string {
  return `${typeof id === 'number' ? '#' : '"'}${id}`;
}

/** @param id null where the request has none that can be read */
export function errorMessage(id: Id | null, code: number, message: string, data?: JsonObject): JsonObject {
  return { jsonrpc: '2.0', id, error: { code, message, ...(data === undefined ? {} : { data }) } };
}

export function resultMessage(id: Id, result: Json): JsonObject {
  return { jsonrpc: '2.0', id, result };
}

/**
 * Returns equal text for equal values, whatever the order of their keys.
 *
 * @param depth values nested deeper are equal only in the same order
 */
export function canonical(value: Json, depth = 64): string {
  if (typeof value !== 'object' || value === null || depth === 0) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((one) => canonical(one, depth - 1)).join(',')}]`;
  const fields = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonical(value[key]!, depth - 1)}`);
  return `{${fields.join(',')}}`;
}
