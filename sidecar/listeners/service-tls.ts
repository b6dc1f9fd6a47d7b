/** Lets callers of an egress in: with TLS where it is configured, and with a place for each network address. */
import type { Socket } from 'node:net';
import type { Peer } from '../llm/service/known-callers.ts';
import type { ServiceTlsSettings } from '../llm/shared/service-settings.ts';
import type { Credentials, CredentialsListener } from '../tls/credentials.ts';
import { NOBODY } from '../tls/credentials.ts';
import { ALPN_H2 } from '../tls/material.ts';
import { TlsAcceptor, type TlsService } from './tls-acceptor.ts';
import { tlsRefusal } from './tls-refusal.ts';

export const LLM_TLS: TlsService = {
  where: 'llm.tls',
  protocols: [ALPN_H2, 'http/1.1'],
  needsProtocol: false,
  refusal: (protocol, reason, message) =>
    protocol === ALPN_H2
      ? tlsRefusal(reason, message)
      : http1Refusal(reason, { error: { message, type: 'outrigger_error', param: null, code: reason } }),
};

export const MCP_TLS: TlsService = {
  where: 'mcp.tls',
  protocols: ['http/1.1'],
  needsProtocol: false,
  refusal: (_protocol, reason, message) => {
    const error = { code: -32_000, message, data: { 'outrigger/reason': reason } };
    return http1Refusal(reason, { jsonrpc: '2.0', id: null, error });
  },
};

/** A client over HTTP/1.1 reads it as the answer to the request that it is about to send. */
function http1Refusal(reason: string, answer: object): Buffer {
  const body = JSON.stringify(answer);
  const status = reason === 'tls_plain_text' ? '400 Bad Request' : '401 Unauthorized';
  return Buffer.from(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\noutrigger-reason: ${reason}\r\nx-should-retry: false\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

export class ServiceTls {
  private readonly service: TlsService;
  private readonly certificates: CredentialsListener;
  private readonly onRefused: (reason: string) => void;
  private readonly names = new WeakMap<Socket, readonly string[]>();
  private settings: ServiceTlsSettings | undefined = undefined;
  private acceptor: TlsAcceptor | undefined = undefined;

  constructor(
    service: TlsService,
    certificates: CredentialsListener = NOBODY,
    onRefused: (reason: string) => void = () => {},
  ) {
    this.service = service;
    this.certificates = certificates;
    this.onRefused = onRefused;
  }

  /** New connections follow the new settings; open ones stay. */
  apply(settings: ServiceTlsSettings | undefined): void {
    if (JSON.stringify(settings) === JSON.stringify(this.settings)) return;
    this.settings = settings;
    this.acceptor?.close();
    this.acceptor =
      settings &&
      new TlsAcceptor(
        { ...settings, allowIdentities: [], required: true },
        this.certificates,
        { onRefused: ({ reason }) => this.onRefused(reason) },
        this.service,
      );
  }

  get credentials(): Credentials | undefined {
    return this.acceptor?.credentials;
  }

  accept(socket: Socket, admit: (secured: Socket) => void): void {
    if (this.acceptor === undefined) {
      admit(socket);
      return;
    }
    this.acceptor.acceptHandshake(socket, (secured, identity) => {
      if (identity !== undefined) this.names.set(secured, identity.names);
      admit(secured);
    });
  }

  /** Who is at the other end. */
  peer(socket: Socket): Peer {
    return { isLoopback: isOnLoopback(socket), names: this.names.get(socket) };
  }

  /** Closes the connections whose handshake is not over. */
  closeAllWaiting(): void {
    this.acceptor?.closeAllWaiting();
  }

  close(): void {
    this.acceptor?.close();
  }
}

/** False for a unix socket, which has no address; no browser can reach it. */
function isOnLoopback({ localAddress }: Socket): boolean {
  return localAddress !== undefined && /^(?:127\.|::1$|::ffff:127\.)/.test(localAddress);
}
