/** Chooses between JSON and an event stream for one request. */
import type { IncomingMessage } from 'node:http';

/**
 * Whether the client of an event stream wants one JSON document instead: `?format=json`, or an `Accept` that names JSON or,
 * as a browser's address bar sends, HTML, and no stream. The default, or `?format=stream`, is the stream.
 */
export function wantsJson({ url = '', headers }: IncomingMessage): boolean {
  const format = new URLSearchParams(url.split('?', 2)[1] ?? '').get('format');
  if (format === 'json' || format === 'stream') return format === 'json';
  const accept = headers.accept ?? '';
  return !/text\/event-stream/i.test(accept) && /application\/json|text\/html/i.test(accept);
}
