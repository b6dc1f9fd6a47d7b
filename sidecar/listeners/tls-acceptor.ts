/** Accepts TLS handshakes, bounds them, and checks the certificates of callers. */
import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import type { PeerIdentity } from '../http2/peer-identity.ts';
import { Credentials, type CredentialsListener } from '../tls/credentials.ts';
import { ofCaller, printable, TlsError, tlsErrorOf, verificationOf } from '../tls/failure.ts';
import { AllowList, identitiesOf } from '../tls/identity.ts';
import { joinRecords } from '../tls/joined-records.ts';
import { ALPN_H2, PROTOCOL, type TlsMaterial } from '../tls/material.ts';
import type { TlsAcceptorSettings } from './listener-settings.ts';
import { tlsRefusal } from './tls-refusal.ts';

/** Receives an admitted caller; without an identity in plain text, and when no certificate is required. */
export type Admit = (socket: Socket, identity: PeerIdentity | undefined) => void;

export interface TlsAcceptorListener {
  onRefused(error: TlsError): void;
}

/** What a listener says of itself to the callers that it refuses, and which protocols it speaks. */
export interface TlsService {
  /** The name of its settings, for messages. */
  readonly where: string;
  readonly protocols: readonly string[];
  /** A caller that names none of the protocols is refused. */
  readonly needsProtocol: boolean;
  /** Returns the bytes that tell a caller why it is refused; undefined where it would not read any. */
  readonly refusal: (protocol: string, reason: string, message: string) => Buffer | undefined;
}

const GRPC: TlsService = {
  where: 'inbound.tls',
  protocols: [ALPN_H2],
  needsProtocol: true,
  refusal: (protocol, reason, message) => (protocol === ALPN_H2 ? tlsRefusal(reason, message) : undefined),
};

interface Waiting {
  readonly socket: Socket;
  readonly timer: NodeJS.Timeout;
  readonly admit: Admit;
}

/** How long a caller may take from accept to the end of the handshake. */
export const HANDSHAKE_TIMEOUT_MS = 5_000;
/**
 * The most callers in a handshake at a time. A handshake takes milliseconds: when there are more, the oldest one of the
 * address that has most has stopped midway, and its connection is closed for the newest.
 */
export const MAX_HANDSHAKES = 256;
/**
 * The most handshakes that begin in one turn of the event loop. Each costs a signature, most of a millisecond: when a fleet
 * connects at once, calls continue in between.
 */
const HANDSHAKES_PER_TURN = 8;
/** How long a refused caller may take to read the reason. */
const LINGER_MS = 1_000;
/** ContentType handshake, the first byte of a TLS connection (RFC 8446 §5.1). HTTP/2 begins with `P`. */
const TLS_HANDSHAKE = 0x16;
const HTTP2 = 'PRI ';

/**
 * Accepts TLS connections and checks the caller's certificate:
 *
 *     accepted ──first byte──▶ TLS ──handshake──▶ certificate, identity ──▶ admitted
 *         │                     │                        └──▶ refused, with the reason in a GOAWAY
 *         │                     └── failed, cut, too long ──▶ closed
 *         ├──────────────▶ plain text ──▶ admitted, or refused where TLS is required
 *         └── no byte for too long, or too many after it ──▶ closed
 *
 * Each connection has to authenticate again: sessions are not resumed, so that an expired or no longer allowed certificate
 * opens no new connection. Connections between sidecars live for minutes, so resumption would save little.
 */
export class TlsAcceptor {
  readonly credentials: Credentials;
  readonly settings: TlsAcceptorSettings;
  private readonly listener: TlsAcceptorListener;
  private readonly service: TlsService;
  private readonly allowed: AllowList;
  private readonly server: TlsServer;
  /** The number of handshakes begun in this turn, and the sockets that wait for later turns. */
  private begun = 0;
  private readonly next: Socket[] = [];
  /** In the order of arrival, by address and port, because Node reports a handshake's end on another socket object. */
  private readonly waiting = new Map<string, Waiting>();

  constructor(
    settings: TlsAcceptorSettings,
    certificates: CredentialsListener,
    listener: TlsAcceptorListener,
    service = GRPC,
  ) {
    this.service = service;
    this.settings = settings;
    this.listener = listener;
    this.allowed = new AllowList(settings.allowIdentities);
    this.server = createServer({
      ...PROTOCOL,
      ALPNProtocols: [...service.protocols],
      requestCert: settings.clientCa !== undefined,
      // `verify` checks it, so that the refusal can give the reason.
      rejectUnauthorized: false,
      secureOptions: constants.SSL_OP_NO_TICKET,
      // Our own timeout is shorter, and counts the refusal.
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS + 1_000,
    });
    this.server.on('secureConnection', (socket) => this.onSecure(socket));
    this.server.on('tlsClientError', (error, socket) => this.onHandshakeFailed(error, socket));
    const { cert, key, clientCa: ca } = settings;
    this.credentials = new Credentials(service.where, { cert, key, ca }, certificates, (material) =>
      this.use(material),
    );
  }

  /** New connections use the new certificate; open ones keep theirs. */
  private use({ cert, key, ca }: TlsMaterial): void {
    this.server.setSecureContext({
      ...PROTOCOL,
      cert,
      key,
      ca,
      secureOptions: constants.SSL_OP_NO_TICKET,
      honorCipherOrder: true,
    });
  }

  /** Whether an open connection may stay: these settings would admit it again. */
  admits(scheme: 'http' | 'https', identity: PeerIdentity | undefined): boolean {
    const { clientCa, required } = this.settings;
    if (scheme === 'http') return !required;
    if (clientCa === undefined) return true;
    if (identity === undefined) return false;
    return this.allowed.empty || this.allowed.match(identity.names) !== undefined;
  }

  get waitingCount(): number {
    return this.waiting.size;
  }

  acceptHandshake(socket: Socket, admit: Admit): void {
    const key = keyOf(socket);
    if (this.waiting.size >= MAX_HANDSHAKES) this.closeWaiting(this.oldestOfLargest());
    const timer = setTimeout(() => this.closeWaiting(key), HANDSHAKE_TIMEOUT_MS);
    this.waiting.set(key, { socket, timer, admit });
    let bytes = 0;
    socket.on('error', ignore);
    socket.once('close', () => {
      // Another connection may have its address and port by now.
      if (this.waiting.get(key)?.socket === socket && this.leave(key) && bytes > 0)
        this.refused(
          'tls_cut',
          'the caller closed the connection during the handshake; does it reject our certificate?',
        );
    });
    const onReadable = (): void => {
      const chunk: Buffer | null = socket.read();
      if (chunk === null) return;
      bytes += chunk.length;
      socket.off('readable', onReadable);
      socket.unshift(chunk);
      socket.off('end', onEnd);
      if (chunk[0] !== TLS_HANDSHAKE) {
        this.onPlainText(socket, key, chunk, admit);
        return;
      }
      this.begin(socket);
    };
    // The caller closes without a byte, as a TCP probe does.
    const onEnd = (): void => void socket.destroy();
    socket.on('readable', onReadable);
    socket.on('end', onEnd);
  }

  /** Returns the oldest of the address that has most, so that an address with hundreds displaces only its own. */
  private oldestOfLargest(): string {
    const byAddress = new Map<string | undefined, { count: number; oldest: string }>();
    let most = { count: 0, oldest: '' };
    for (const [key, { socket }] of this.waiting) {
      const { count, oldest } = byAddress.get(socket.remoteAddress) ?? { count: 0, oldest: key };
      const counted = { count: count + 1, oldest };
      byAddress.set(socket.remoteAddress, counted);
      if (counted.count > most.count) most = counted;
    }
    return most.oldest;
  }

  private begin(socket: Socket): void {
    if (this.begun >= HANDSHAKES_PER_TURN) {
      this.next.push(socket);
      return;
    }
    if (this.begun++ === 0) setImmediate(() => this.beginNext());
    this.server.emit('connection', socket);
  }

  private beginNext(): void {
    this.begun = 0;
    while (this.begun < HANDSHAKES_PER_TURN && this.next.length > 0) {
      const socket = this.next.shift()!;
      if (!socket.destroyed) this.begin(socket);
    }
  }

  private onPlainText(socket: Socket, key: string, first: Buffer, admit: Admit): void {
    this.leave(key);
    if (!this.settings.required) {
      socket.off('error', ignore);
      admit(socket, undefined);
      return;
    }
    const message = 'this port accepts TLS only; set tls on the calling side';
    this.refused('tls_plain_text', message);
    const http2 = HTTP2.startsWith(first.toString('latin1', 0, Math.min(HTTP2.length, first.length)));
    const words = this.service.refusal(http2 ? ALPN_H2 : '', 'tls_plain_text', message);
    if (words === undefined) socket.destroy();
    else end(socket, words);
  }

  private onSecure(socket: TLSSocket): void {
    const key = keyOf(socket);
    const admit = this.waiting.get(key)?.admit;
    // The handshake timed out or was displaced before.
    if (admit === undefined || !this.leave(key)) return void socket.destroy();
    joinRecords(socket);
    const verdict = this.verify(socket);
    if (verdict instanceof TlsError) {
      this.listener.onRefused(ofCaller(verdict));
      const words = this.service.refusal(socket.alpnProtocol || '', verdict.reason, verdict.message);
      end(socket, words ?? tlsRefusal(verdict.reason, verdict.message));
    } else {
      admit(socket, verdict);
    }
  }

  private verify(socket: TLSSocket): PeerIdentity | undefined | TlsError {
    if (this.service.needsProtocol && socket.alpnProtocol !== ALPN_H2)
      return new TlsError('tls_no_alpn', 'the caller does not offer HTTP/2 (ALPN h2); gRPC needs it');
    if (this.settings.clientCa === undefined) return undefined;
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined)
      return new TlsError(
        'tls_no_certificate',
        'the caller shows no certificate; set tls.cert and tls.key there',
      );
    const subject = printable(certificate.subject ?? '');
    const names = identitiesOf(certificate);
    const who = names.length > 0 ? names.slice(0, 4).join(', ') : subject;
    const unverified = verificationOf(socket);
    if (unverified !== undefined)
      return new TlsError(unverified.reason, `caller "${printable(who)}": ${unverified.message}`, unverified);
    if (this.allowed.empty) return { name: names[0] ?? subject, names };
    const name = this.allowed.match(names);
    if (name !== undefined) return { name, names };
    const message = `caller "${printable(who)}" is not among inbound.tls.allow_identities`;
    return new TlsError('tls_identity', message);
  }

  private onHandshakeFailed(error: Error, socket: TLSSocket): void {
    const { code } = error as NodeJS.ErrnoException;
    // The socket's `close` event handles it.
    if (code === 'ECONNRESET' || !this.leave(keyOf(socket))) return;
    const problem = this.credentials.material === undefined ? `; our own: ${this.credentials.problem}` : '';
    const failure = tlsErrorOf(error) ?? new TlsError('tls_handshake', `the handshake failed (${code})`);
    this.refused(failure.reason, failure.message + problem);
    // Node leaves the connection open after some alerts.
    socket.destroy();
  }

  /** Closes a connection whose time is over, or that another one displaces. */
  private closeWaiting(key: string): void {
    const waiting = this.waiting.get(key);
    if (waiting === undefined) return;
    this.leave(key);
    this.refused(
      'tls_timeout',
      `the caller did not finish the TLS handshake within ${HANDSHAKE_TIMEOUT_MS} ms, or another caller needed its place`,
    );
    waiting.socket.destroy();
  }

  private leave(key: string): boolean {
    const waiting = this.waiting.get(key);
    if (waiting === undefined) return false;
    clearTimeout(waiting.timer);
    return this.waiting.delete(key);
  }

  private refused(reason: TlsError['reason'], message: string): void {
    this.listener.onRefused(ofCaller(new TlsError(reason, message)));
  }

  close(): void {
    this.credentials.stop();
    this.closeAllWaiting();
  }

  /** Closes the connections that are not admitted yet. */
  closeAllWaiting(): void {
    for (const [key, { socket }] of [...this.waiting]) {
      this.leave(key);
      socket.destroy();
    }
  }
}

function ignore(): void {
  // The socket's `close` event handles it.
}

/** Address and port are enough: unix sockets, which have none, can't have TLS by the configuration. */
function keyOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress}:${remotePort}`;
}

/** Sends the reason and closes. It reads on: unread bytes would turn the end into a reset, which discards the reason. */
function end(socket: Socket, words: Buffer): void {
  socket.on('error', () => {});
  socket.resume();
  socket.end(words);
  const linger = setTimeout(() => socket.destroy(), LINGER_MS).unref();
  socket.once('close', () => clearTimeout(linger));
}
