/** Binds a server to an address of the configuration. */
import { lstatSync, statSync, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { TypedError } from '../errors/typed-error.ts';
import { formatHostPort, parseAddress } from '../net/address.ts';

/** An address could not be opened; the message says which, why, and what to do. */
export class ListenError extends TypedError {
  override readonly name = 'ListenError';
  override readonly source = 'ours';
  override readonly isSafeToRetry = true;
  readonly code: string;

  constructor(setting: string, address: string, code: string) {
    super(`${setting}: can not listen on ${address}: ${REASONS[code] ?? `${code}; check the address`}`);
    this.code = code;
  }
}

/** A listener could not accept a connection. It continues to listen. */
export class AcceptError extends TypedError {
  override readonly name = 'AcceptError';
  override readonly source = 'ours';
  override readonly isSafeToRetry = true;

  /** @param unsaid failures since the last one that was reported */
  constructor(setting: string, code: string, unsaid: number) {
    const more = unsaid === 0 ? '' : `, and ${unsaid} times before`;
    super(
      `${setting}: a connection can not be accepted (${code}${more}); give the process more memory or descriptors`,
    );
  }
}

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the address is in use; stop the process that listens there, or choose another port',
  EADDRNOTAVAIL: 'this machine does not have the address; use one of its own, 0.0.0.0 or 127.0.0.1',
  EACCES: 'it is not permitted; ports below 1024 need privileges, and a socket needs a writable folder',
  ENOENT: 'the folder of the socket does not exist; create it',
  ENOTSOCK: 'the path names a file that is no socket; remove it, or choose another path',
  ENOTFOUND: 'the name does not exist; check its spelling, or use an address',
  EAI_AGAIN: 'the DNS service does not answer; use an address',
  DRAINING: 'the sidecar is draining; restart it with this configuration',
};

const ACCEPT_ERROR_EVERY_MS = 1_000;

/** The code when an address is refused because the sidecar drains. */
export const DRAINING = 'DRAINING';

/** The errors of a kernel without IPv6, or without IPv6 in this pod. */
const WITHOUT_IPV6: ReadonlySet<string> = new Set(['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EPROTONOSUPPORT']);

/**
 * Listens, and resolves with the address, with the port that the system chose for port 0.
 * It replaces a unix socket that a dead process left behind. `[::]` accepts IPv4, too, and only IPv4 on a system without
 * IPv6. Throws {@link ListenError}.
 *
 * @param setting the setting that has the address, for the message
 * @param onAcceptError called, at most once a second, when connections could not be accepted
 */
export async function listenOn(
  server: Server,
  address: string,
  setting: string,
  onAcceptError: (error: AcceptError) => void,
): Promise<string> {
  const where = parseAddress(address, { forListening: true });
  try {
    if (where.kind === 'unix') await listenOnPath(server, where.path);
    else await listenOnce(server, { host: where.host, port: where.port });
  } catch (error) {
    const code = codeOf(error);
    if (where.kind === 'tcp' && where.host === '::' && WITHOUT_IPV6.has(code))
      return listenOn(server, formatHostPort('0.0.0.0', where.port), setting, onAcceptError);
    throw new ListenError(setting, address, code);
  }
  reportAcceptErrors(server, setting, onAcceptError);
  const bound = server.address();
  return bound === null || typeof bound === 'string' ? address : formatHostPort(bound.address, bound.port);
}

/**
 * Listens on both loopback addresses: on 127.0.0.1 with `first`, and on [::1], if the system has it, with `second`, on the
 * same port. Resolves with the address of the first. When it throws {@link ListenError}, neither listens.
 */
export async function listenOnLoopback(
  first: Server,
  second: Server,
  port: number,
  setting: string,
  onAcceptError: (error: AcceptError) => void,
): Promise<string> {
  const bound = await listenOn(first, formatHostPort('127.0.0.1', port), setting, onAcceptError);
  const address = formatHostPort('::1', Number(bound.slice(bound.lastIndexOf(':') + 1)));
  try {
    await listenOn(second, address, setting, onAcceptError);
  } catch (error) {
    if (!WITHOUT_IPV6.has(codeOf(error))) {
      first.close();
      throw error;
    }
  }
  return bound;
}

/**
 * Reports failed accepts. Without an `error` listener such a failure would end the process with all of its calls. The
 * kernel may repeat the error for as long as the connection waits.
 */
function reportAcceptErrors(server: Server, setting: string, report: (error: AcceptError) => void): void {
  let quietUntilMs = Number.NEGATIVE_INFINITY;
  let unsaid = 0;
  server.on('error', (error) => {
    const nowMs = performance.now();
    if (nowMs < quietUntilMs) {
      unsaid++;
      return;
    }
    quietUntilMs = nowMs + ACCEPT_ERROR_EVERY_MS;
    report(new AcceptError(setting, codeOf(error), unsaid));
    unsaid = 0;
  });
}

/** Throws an error with a code: one of ours where the kernel's would be misleading. */
async function listenOnPath(server: Server, path: string): Promise<void> {
  // For a missing folder Node reports EACCES; stat reports ENOENT.
  statSync(dirname(path));
  try {
    await listenOnce(server, { path });
  } catch (error) {
    if (codeOf(error) !== 'EADDRINUSE') throw error;
    if (!lstatSync(path).isSocket()) throw Object.assign(new Error('not a socket'), { code: 'ENOTSOCK' });
    if (!(await isAbandoned(path))) throw error;
    unlinkSync(path);
    await listenOnce(server, { path });
  }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'unknown error';
}

function listenOnce(
  server: Server,
  options: { path: string } | { host: string; port: number },
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(options, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** Whether no process accepts connections on this socket. */
function isAbandoned(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
  });
}
