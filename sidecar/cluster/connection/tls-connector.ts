/** Opens TLS connections to endpoints and checks their certificates. */
import { isIP, type Socket } from 'node:net';
import { checkServerIdentity, connect, type PeerCertificate, type SecureContext } from 'node:tls';
import { parseAddress } from '../../net/address.ts';
import { hostName } from '../../net/authority.ts';
import { Credentials, type CredentialsListener } from '../../tls/credentials.ts';
import { printable, TlsError } from '../../tls/failure.ts';
import { AllowList, identitiesOf } from '../../tls/identity.ts';
import { joinRecords } from '../../tls/joined-records.ts';
import { ALPN_H2, contextOf } from '../../tls/material.ts';
import type { ClusterTlsSettings } from './tls-settings.ts';

/** Opens TLS sockets to the endpoints of one cluster. */
export class TlsConnector {
  readonly credentials: Credentials;
  private readonly settings: ClusterTlsSettings;
  /** The name that discovery resolved to the endpoints' addresses; undefined for listed addresses. */
  private readonly serviceName: string | undefined;
  private readonly allowed: AllowList;
  private context: SecureContext | undefined = undefined;

  constructor(
    cluster: string,
    settings: ClusterTlsSettings,
    serviceName: string | undefined,
    certificates: CredentialsListener,
  ) {
    this.settings = settings;
    this.serviceName = serviceName;
    this.allowed = new AllowList(settings.allowIdentities);
    const { ca, cert, key } = settings;
    const where = `outbound.clusters.${cluster}.tls`;
    this.credentials = new Credentials(where, { ca, cert, key }, certificates, (material) => {
      this.context = contextOf(material);
    });
  }

  /**
   * Connects. The socket's errors are TlsError or Node's, for `tlsErrorOf`. We send no data before the endpoint's
   * certificate is verified. Throws AddressError, and TlsError while there is no usable certificate.
   */
  connect(address: string): Socket {
    const { context, serviceName } = this;
    if (context === undefined)
      throw new TlsError('tls_no_certificate', `no TLS: ${this.credentials.problem}`);
    const { serverName } = this.settings;
    const where = parseAddress(address);
    const host = where.kind === 'unix' ? 'localhost' : where.host;
    // RFC 6066 §3: the server name has no dot at its end, and neither do the names in certificates.
    const name = hostName(serverName ?? serviceName ?? host);
    const socket = connect({
      ...(where.kind === 'unix' ? { path: where.path } : { host, port: where.port }),
      // RFC 6066 §3: the server name is never an IP address.
      ...(isIP(name) === 0 ? { servername: name } : {}),
      secureContext: context,
      ALPNProtocols: [ALPN_H2],
      rejectUnauthorized: true,
      checkServerIdentity: (_host, certificate) => this.refuse(name, certificate),
    });
    joinRecords(socket);
    socket.once('secureConnect', () => {
      if (socket.alpnProtocol !== ALPN_H2)
        socket.destroy(new TlsError('tls_no_alpn', 'the endpoint does not offer HTTP/2 (ALPN h2)'));
    });
    return socket;
  }

  /**
   * Checks the name in a certificate that our authorities have verified; returns why it is refused. A list of identities
   * replaces the default name.
   */
  private refuse(name: string, certificate: PeerCertificate): Error | undefined {
    const who = namesOf(certificate);
    if (!this.allowed.empty) {
      const identities = identitiesOf({ subjectAltName: certificate.subjectaltname });
      if (this.allowed.match(identities) === undefined) {
        return new TlsError(
          'tls_identity',
          `the endpoint is "${who}", which is not among tls.allow_identities`,
        );
      }
      if (this.settings.serverName === undefined) return undefined;
    }
    if (checkServerIdentity(name, certificate) === undefined) return undefined;
    const remedy = 'set tls.server_name or tls.allow_identities to what it should be';
    return new TlsError(
      'tls_wrong_name',
      `its certificate is for another name: "${who}", not ${name}; ${remedy}`,
    );
  }

  stop(): void {
    this.credentials.stop();
  }
}

/** For messages: the names and IP addresses in the certificate. */
function namesOf({ subjectaltname = '' }: PeerCertificate): string {
  return printable(subjectaltname.replaceAll(/(URI|DNS|IP Address):/g, '')) || 'nobody';
}
