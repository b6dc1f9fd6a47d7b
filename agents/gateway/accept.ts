/**
 * Whether a request prefers its answer as server-sent events: it ranks text/event-stream above JSON and above
 * "anything" (RFC 9110, 12.5.1). Without an Accept header it does not.
 */
export function wantsEventStream(accept: string | undefined): boolean {
  let events = 0;
  let others = 0;
  for (const range of (accept ?? '').split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const quality = Number(parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? 1);
    if (type === 'text/event-stream') events = Math.max(events, quality || 0);
    else if (type === 'application/json') others = Math.max(others, quality || 0);
  }
  return events > 0 && events >= others;
}
