/** Names the types of HTTP header fields as Node hands them out and takes them. */

/** As they were received: nothing is assumed of them. */
export type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** To be sent, of a request or of an answer. */
export type HttpHeaders = Record<string, string | string[]>;

/** The first value of a header. */
export function textOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
