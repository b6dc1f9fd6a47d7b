/** Describes why a connection to an endpoint could not be opened, or has closed. */
import type { Connection } from '../../http2/connection.ts';
import { ConnectionError } from '../../http2/errors.ts';
import { SILENT_SERVER_HINT } from '../../http2/foreign.ts';
import { ErrorCode } from '../../http2/frame.ts';
import { tlsErrorOf } from '../../tls/failure.ts';

/** The error of a connection that is not ready for calls in time. */
export function connectTimeout(
  { ready, socket }: Connection,
  address: string,
  timeoutMs: number,
): ConnectionError {
  if (ready) {
    const message = 'it takes no calls: its SETTINGS_MAX_CONCURRENT_STREAMS is 0';
    return new ConnectionError('peer', ErrorCode.NO_ERROR, message, 'no_streams');
  }
  const message = socket.connecting
    ? `no connection to ${address} within ${timeoutMs} ms`
    : `no HTTP/2 SETTINGS from ${address} within ${timeoutMs} ms: ${SILENT_SERVER_HINT}`;
  return new ConnectionError('network', ErrorCode.NO_ERROR, message, 'connect_timeout');
}

/** Returns message and reason of a failed connection; the TLS error's own if TLS caused it. */
export function causeOf(error: ConnectionError): { message: string; reason: string } {
  const tls = tlsErrorOf(error.cause);
  if (tls === undefined) return error;
  return { message: `${tls.reason}: ${tls.message}`, reason: tls.reason };
}
