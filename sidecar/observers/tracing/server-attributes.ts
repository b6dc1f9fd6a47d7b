/** The attributes of a server that was asked. Nothing here loads the SDK. */
import type { AttributeValue } from '../../telemetry/tracing/span.ts';

/** `host:port`, `[v6]:port`, a name alone, or `unix:/path`. */
export function serverAttributes(address: string): AttributeValue[] {
  if (address === '') return [];
  if (address.startsWith('unix:')) return ['server.address', address.slice(5)];
  const colon = address.lastIndexOf(':');
  const port = colon < 0 ? Number.NaN : Number(address.slice(colon + 1));
  if (!Number.isInteger(port) || port < 1 || port > 65_535 || address.endsWith(':'))
    return ['server.address', address];
  return ['server.address', address.slice(0, colon).replace(/^\[|\]$/g, ''), 'server.port', port];
}
