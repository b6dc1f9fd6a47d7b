/** Maps a Node socket error to its meaning for the calls on the connection. */
import { Status, type StatusCode } from './status.ts';

/** The meaning of a failed socket for the calls on it. */
export interface SocketFailure {
  status: StatusCode;
  /** The peer provably received nothing of the call, so any call may be retried at another endpoint. */
  notProcessed: boolean;
  /** A local shortage (file descriptors, ports, memory), which is no evidence about the endpoint. */
  local: boolean;
  /** For operators: what happened and what to check. */
  hint: string;
}

const CONNECT_HINTS: ReadonlyMap<string, string> = new Map([
  ['ECONNREFUSED', 'connection refused: check that something listens there'],
  ['ENOENT', 'no such socket: check the path and that the app has created it'],
  ['EACCES', 'no permission to connect: check the rights of the socket'],
  ['EPERM', 'connecting is not permitted: check firewall rules and network policies'],
  ['ENOTFOUND', 'the name does not resolve: check its spelling and the DNS service'],
  ['EAI_AGAIN', 'the DNS service does not answer: check that it can be reached'],
  ['EHOSTUNREACH', 'no route to the host: check the network and that the address is current'],
  ['ENETUNREACH', 'no route to the network: check that the address family is in use here'],
  ['ETIMEDOUT', 'the connection timed out: check the network, firewalls and network policies'],
]);
const ESTABLISHED_HINTS: ReadonlyMap<string, string> = new Map([
  ['ECONNRESET', 'the peer reset the connection: it has probably crashed or restarted'],
  ['EPIPE', 'the peer had closed the connection: it has probably stopped'],
  ['ETIMEDOUT', 'the connection timed out: the peer or the network in between is gone'],
]);
const SHORTAGE_HINTS: ReadonlyMap<string, string> = new Map([
  ['EMFILE', 'too many open files: raise the limit on file descriptors of this process'],
  ['ENFILE', 'too many open files on this host: raise its limit'],
  ['ENOBUFS', 'no memory for sockets on this host'],
  ['ENOMEM', 'no memory for sockets on this host'],
  ['EADDRNOTAVAIL', 'no local port is free: widen the port range or use fewer connections'],
]);
/** Codes that only a connection attempt produces, at any time. */
const NEVER_CONNECTED: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ENOENT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EMFILE',
  'ENFILE',
  'EADDRNOTAVAIL',
]);

/**
 * Interprets the `code` of a Node socket or TLS error. `connected`: whether the connection was usable before;
 * until then no byte of a call can have been sent; afterwards the peer may have acted on what was sent.
 *
 * The status is always UNAVAILABLE, as gRPC requires for every lost connection.
 */
export function socketFailure(code: string | undefined, connected: boolean): SocketFailure {
  const known = code ?? 'no code';
  const shortage = SHORTAGE_HINTS.get(known);
  const hint = shortage ?? (connected ? ESTABLISHED_HINTS : CONNECT_HINTS).get(known);
  return {
    status: Status.UNAVAILABLE,
    notProcessed: !connected || NEVER_CONNECTED.has(known),
    local: shortage !== undefined,
    hint: hint ?? `${connected ? 'the connection failed' : 'connecting failed'} (${known})`,
  };
}
