/** Recognizes peers that do not speak HTTP/2 by their first bytes, and servers that send nothing. */

/** The protocol that a client's first bytes look like. */
export type ForeignClient = 'http1' | 'tls' | 'nothing known';

/** Why a server probably closes, or stays silent, before it has sent SETTINGS. */
export const SILENT_SERVER_HINT = 'a server that wants TLS, speaks only HTTP/1 or is starting does so';

/** The parts of a lost connection that its description needs. */
interface LostConnection {
  readonly role: 'server' | 'client';
  readonly ready: boolean;
}

/** Describes the loss of a connection whose socket has ended, or has failed with this error. */
export function lossOf({ role, ready }: LostConnection, error: NodeJS.ErrnoException | undefined): string {
  const what =
    error === undefined ? 'the peer closed the connection' : `the connection failed: ${error.message}`;
  const silent = role === 'client' && !ready && (error === undefined || error.code === 'ECONNRESET');
  return silent ? `${what} before its SETTINGS: ${SILENT_SERVER_HINT}` : what;
}
