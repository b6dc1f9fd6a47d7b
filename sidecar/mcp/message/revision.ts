/** What differs between the revisions of MCP, which a request names in `MCP-Protocol-Version`. Pure. */

/** Assumed for a request without the header (revision 2025-06-18, "Protocol Version Header"). */
const UNNAMED = '2025-03-26';
/** From here on there are no sessions, closing an answer cancels its request, and a stream can't be resumed. */
const STATELESS_FROM = '2026-07-28';

/** The revisions are dates, so their texts are in order. */
export interface Revision {
  readonly name: string;
  /** Several messages may come as one array: in one revision alone. */
  readonly hasBatches: boolean;
  readonly isStateless: boolean;
}

/** @param header `MCP-Protocol-Version`; undefined without one */
export function revisionOf(header: string | undefined): Revision {
  const name = header !== undefined && /^\d{4}-\d\d-\d\d$/.test(header) ? header : UNNAMED;
  return { name, hasBatches: name <= UNNAMED, isStateless: name >= STATELESS_FROM };
}

/** What `Mcp-Name` repeats of the request's parameters. */
const NAMED_BY: Readonly<Record<string, string>> = {
  'tools/call': 'name',
  'prompts/get': 'name',
  'resources/read': 'uri',
};

/** Returns the parameter that `Mcp-Name` repeats; undefined for methods without one. */
export function namedBy(method: string): string | undefined {
  return NAMED_BY[method];
}

const BASE64 = /^=\?base64\?([A-Za-z0-9+/]*={0,2})\?=$/;

/** Returns the value of a header that may be written as `=?base64?…?=`. */
export function decodedHeader(value: string): string {
  const encoded = BASE64.exec(value)?.[1];
  return encoded === undefined ? value : Buffer.from(encoded, 'base64').toString('utf8');
}

/** Methods that have no effect, or the same effect when they come twice. */
const REPEATABLE: ReadonlySet<string> = new Set([
  'ping',
  'server/discover',
  'tools/list',
  'resources/list',
  'resources/templates/list',
  'resources/read',
  'resources/subscribe',
  'resources/unsubscribe',
  'prompts/list',
  'prompts/get',
  'completion/complete',
  'logging/setLevel',
  'tasks/get',
  'tasks/list',
  'tasks/result',
]);

/** Whether a method other than `tools/call` may be sent again after a failure. */
export function isRepeatable(method: string): boolean {
  return REPEATABLE.has(method);
}

/** Streams of notifications: they are silent for as long as nothing happens. */
export function isSubscription(method: string): boolean {
  return method === 'subscriptions/listen';
}
