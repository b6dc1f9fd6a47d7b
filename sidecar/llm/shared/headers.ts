/** Names the types of HTTP header fields, as Node returns and accepts them. */

/** Fields as they were received, with no assumption about their values. */
export type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** Fields to send with a request or an answer. */
export type HttpHeaders = Record<string, string | string[]>;

/** Returns the first value of a header. */
export function textOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
