/** Opens the connection to the NATS servers with what the configuration names: certificates, credentials, an inbox of its own. */
import { readFileSync } from 'node:fs';
import {
  type Authenticator,
  connect,
  createInbox,
  credsAuthenticator,
  type NatsConnection,
  usernamePasswordAuthenticator,
} from '@nats-io/transport-node';
import { LogSetupError, LogUnavailableError } from '../log/log-errors.ts';
import { encodeToken } from './names.ts';
import type { LinkOptions } from './nats-options.ts';

/** The longest wait for one answer of the server. */
export const ANSWER_MS = 3_000;
const SILENT_LINK_MS = 4_000;

/**
 * The connection comes back by itself; `delayMs` says when.
 *
 * @throws LogSetupError, or LogUnavailableError
 */
export async function dial(options: LinkOptions, delayMs: () => number): Promise<NatsConnection> {
  const { servers, tls, publisher } = options;
  const authenticator = authenticators(options);
  try {
    return await connect({
      servers: [...servers],
      name: 'outrigger',
      authenticator,
      ...(tls === undefined ? {} : { tls: tlsOptions(tls) }),
      ...(publisher === undefined ? {} : { inboxPrefix: inboxOf(publisher) }),
      reconnect: true,
      maxReconnectAttempts: -1,
      ignoreAuthErrorAbort: true,
      reconnectDelayHandler: delayMs,
      pingInterval: SILENT_LINK_MS / 2,
      maxPingOut: 2,
      noAsyncTraces: true,
      timeout: ANSWER_MS,
    });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new LogUnavailableError(`the bus can't be reached (${why})`, false, error);
  }
}

/** An inbox that nobody else may listen at. */
export function newInbox({ publisher }: LinkOptions): string {
  return publisher === undefined ? createInbox() : createInbox(inboxOf(publisher));
}

const inboxOf = (publisher: string): string => `_INBOX.${encodeToken(publisher)}`;

function authenticators({ credentialsFile, user }: LinkOptions): Authenticator[] {
  const all: Authenticator[] = [];
  if (credentialsFile !== undefined) {
    readCredentials(credentialsFile);
    // Read again at each connection: the file may have been renewed.
    all.push((nonce) => credsAuthenticator(readCredentials(credentialsFile))(nonce));
  }
  if (user !== undefined) all.push(usernamePasswordAuthenticator(user.name, user.password));
  return all;
}

function readCredentials(file: string): Uint8Array {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new LogSetupError(
      `the credentials for NATS can't be read (${String(error)}): check bus.credentials_file`,
      error,
    );
  }
}

function tlsOptions({ ca, cert, key }: NonNullable<LinkOptions['tls']>) {
  return {
    ...(ca === undefined ? {} : { caFile: ca }),
    ...(cert === undefined ? {} : { certFile: cert }),
    ...(key === undefined ? {} : { keyFile: key }),
  };
}
