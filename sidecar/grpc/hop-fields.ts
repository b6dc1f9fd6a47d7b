/** Names the fields that belong to one hop of a call: each connection has its own, and a call that travels by another way has none. */

/**
 * In the head of an answer, between sidecars: the server's name of the connection, which with the number of the stream names
 * the run. It repeats, so it costs a byte and is decoded once. The head of the rest of a stream has the whole name.
 */
export const RUN_HEADER = 'outrigger-run';
/** A request for the rest of a stream: the name of its run, a slash, and the number of the first byte that is missing. */
export const RESUME_HEADER = 'outrigger-resume';
/** In a task that is sent again to the same endpoint: the name of the stream that it was sent on first. */
export const FIRST_STREAM_HEADER = 'outrigger-first-stream';
/** The call ended with a connection that was going away gracefully. */
export const GOING_AWAY_HEADER = 'outrigger-going-away';

const OF_A_HOP: ReadonlySet<string> = new Set([
  'accept-encoding',
  'connection',
  'content-length',
  'content-type',
  'expect',
  'forwarded',
  'grpc-accept-encoding',
  'grpc-encoding',
  'grpc-message',
  'grpc-message-type',
  'grpc-previous-rpc-attempts',
  'grpc-retry-pushback-ms',
  'grpc-status',
  'grpc-timeout',
  'host',
  'http2-settings',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'via',
  RUN_HEADER,
  RESUME_HEADER,
  FIRST_STREAM_HEADER,
  GOING_AWAY_HEADER,
]);

/** Whether a field of a request says something of its connection, or of how its messages were sent. */
export function isOfARequestsHop(name: string): boolean {
  return name.startsWith(':') || OF_A_HOP.has(name);
}

/** The same of an answer's head or trailers. When to try again is the agent's word, and no connection's. */
export function isOfAnAnswersHop(name: string): boolean {
  return name === 'date' || (name !== 'grpc-retry-pushback-ms' && isOfARequestsHop(name));
}
