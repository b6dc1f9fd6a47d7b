import type { IncomingMessage } from 'node:http';

/**
 * Whether a page that is a stream of events is wanted as JSON, once: `?format=json`, or an `Accept` that names JSON or, as
 * a browser's address bar does, HTML, and no stream. Whoever names nothing gets the stream (`?format=stream` says so).
 */
export function wantsJson({ url = '', headers }: IncomingMessage): boolean {
  const format = new URLSearchParams(url.split('?', 2)[1] ?? '').get('format');
  if (format === 'json' || format === 'stream') return format === 'json';
  const accept = headers.accept ?? '';
  return !/text\/event-stream/i.test(accept) && /application\/json|text\/html/i.test(accept);
}
