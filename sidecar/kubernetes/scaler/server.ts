/** The gRPC server of the scaler: bounded, in plain text or with TLS, whose certificates are read again when they change. */
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { experimental, Server, ServerCredentials, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { boundConnections } from '../../listeners/http-connections.ts';
import { type AcceptError, listenOn } from '../../listeners/listen.ts';
import { Credentials, type CredentialsListener } from '../../tls/credentials.ts';
import type { TlsFiles, TlsMaterial } from '../../tls/material.ts';
import { SCALER_SERVICE } from './service.ts';

export interface ScalerServerOptions {
  readonly listen: string;
  /** Undefined for plain text. With `ca`, clients need a certificate of one of its authorities. */
  readonly tls: TlsFiles | undefined;
  readonly handlers: UntypedServiceImplementation;
  readonly certificates: CredentialsListener;
  readonly onAcceptError: (error: AcceptError) => void;
}

/** A trigger's metadata are a few hundred bytes. */
const MAX_MESSAGE_BYTES = 65_536;
/** KEDA opens one connection for all its calls. */
const MAX_CONNECTIONS = 128;
const MAX_STREAMS_EACH = 1_024;

const OPTIONS = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_concurrent_streams': MAX_STREAMS_EACH,
  // A stream whose peer has vanished would be kept for good.
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc-node.max_session_memory': 10,
};

type Provider = Parameters<typeof experimental.createCertificateProviderServerCredentials>[0];
type IdentityListener = Parameters<Provider['addIdentityCertificateListener']>[0];
type AuthorityListener = Parameters<Provider['addCaCertificateListener']>[0];

/** Gives grpc-js what the files of the certificate have. */
class Certificates implements Provider {
  private material: TlsMaterial | undefined = undefined;
  private readonly identities = new Set<IdentityListener>();
  private readonly authorities = new Set<AuthorityListener>();

  use(material: TlsMaterial): void {
    this.material = material;
    for (const listener of this.identities) this.tellIdentity(listener);
    for (const listener of this.authorities) this.tellAuthorities(listener);
  }

  addIdentityCertificateListener(listener: IdentityListener): void {
    this.identities.add(listener);
    // A server listens to its credentials only after it has asked for them.
    process.nextTick(() => this.tellIdentity(listener));
  }

  removeIdentityCertificateListener(listener: IdentityListener): void {
    this.identities.delete(listener);
  }

  addCaCertificateListener(listener: AuthorityListener): void {
    this.authorities.add(listener);
    process.nextTick(() => this.tellAuthorities(listener));
  }

  removeCaCertificateListener(listener: AuthorityListener): void {
    this.authorities.delete(listener);
  }

  private tellIdentity(listener: IdentityListener): void {
    const { cert, key } = this.material ?? {};
    if (cert !== undefined && key !== undefined)
      listener({ certificate: Buffer.from(cert), privateKey: Buffer.from(key) });
  }

  private tellAuthorities(listener: AuthorityListener): void {
    const { ca } = this.material ?? {};
    if (ca !== undefined) listener({ caCertificate: Buffer.from(ca) });
  }
}

export class ScalerServer {
  private readonly options: ScalerServerOptions;
  private readonly sockets: NetServer;
  private readonly server = new Server(OPTIONS);
  private credentials: Credentials | undefined = undefined;
  private readonly open = new Set<Socket>();
  address = '';

  constructor(options: ScalerServerOptions) {
    this.options = options;
    this.server.addService(SCALER_SERVICE, options.handlers);
    const injector = this.server.createConnectionInjector(this.credentialsOf(options.tls));
    this.sockets = createServer((socket) => {
      socket.setNoDelay(true);
      this.open.add(socket);
      socket.once('close', () => this.open.delete(socket));
      injector.injectConnection(socket);
    });
    boundConnections(this.sockets, MAX_CONNECTIONS);
  }

  /** Throws ListenError. */
  async listen(): Promise<void> {
    const { listen, onAcceptError } = this.options;
    this.address = await listenOn(this.sockets, listen, '--listen', onAcceptError);
  }

  get isListening(): boolean {
    return this.sockets.listening;
  }

  /** Accepts no more; calls in flight have this long. */
  async close(limitMs: number): Promise<void> {
    this.credentials?.stop();
    const closed = new Promise<void>((resolve) => this.sockets.close(() => resolve()));
    const timer = setTimeout(() => this.server.forceShutdown(), limitMs);
    await new Promise<void>((resolve) => this.server.tryShutdown(() => resolve()));
    clearTimeout(timer);
    for (const socket of this.open) socket.destroy();
    await closed;
  }

  private credentialsOf(files: TlsFiles | undefined): ServerCredentials {
    if (files === undefined) return ServerCredentials.createInsecure();
    const provider = new Certificates();
    this.credentials = new Credentials('--tls-cert', files, this.options.certificates, (material) =>
      provider.use(material),
    );
    // grpc-js takes the identity first, whatever its types call the two.
    return experimental.createCertificateProviderServerCredentials(
      provider,
      files.ca === undefined ? null : provider,
      files.ca !== undefined,
    );
  }
}
