/** Maps Node's and OpenSSL's TLS errors to one short reason for counters and a message that says what to do. */

import type { TLSSocket } from 'node:tls';
import { type ErrorSource, TypedError } from '../errors/typed-error.ts';

/** Why TLS failed; the value of `reason` in metrics and logs. */
export type TlsReason =
  | 'tls_expired'
  | 'tls_not_yet_valid'
  | 'tls_wrong_name'
  | 'tls_identity'
  | 'tls_self_signed'
  | 'tls_unknown_ca'
  | 'tls_revoked'
  | 'tls_bad_certificate'
  | 'tls_no_certificate'
  | 'tls_version'
  | 'tls_no_alpn'
  | 'tls_plain_text'
  | 'tls_unexpected'
  | 'tls_timeout'
  | 'tls_cut'
  | 'tls_handshake';

/** TLS failed, or we refused the peer. The message says why and what to do. */
export class TlsError extends TypedError {
  override readonly name = 'TlsError';
  /** For connections that we open. A listener sets it to `downstream` ({@link ofCaller}). */
  override source: ErrorSource;
  /** We send nothing before the handshake ends. */
  override readonly isSafeToRetry = true;
  readonly reason: TlsReason;

  constructor(reason: TlsReason, message: string, cause?: unknown) {
    super(message, cause);
    this.source = reason === 'tls_no_certificate' ? 'ours' : 'upstream';
    this.reason = reason;
  }
}

/** Marks the error as the caller's, for a connection that we accepted. */
export function ofCaller(error: TlsError): TlsError {
  error.source = 'downstream';
  return error;
}

interface Meaning {
  readonly reason: TlsReason;
  readonly message: string;
}

/** What is wrong with the peer's certificate, by OpenSSL's X509_V_ERR name. */
const CERTIFICATE: ReadonlyMap<string, Meaning> = new Map<string, Meaning>([
  [
    'CERT_HAS_EXPIRED',
    { reason: 'tls_expired', message: 'its certificate, or one above it, has expired; renew it' },
  ],
  [
    'CERT_NOT_YET_VALID',
    {
      reason: 'tls_not_yet_valid',
      message: 'its certificate is not valid yet; check the clocks of both hosts',
    },
  ],
  [
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    {
      reason: 'tls_self_signed',
      message: 'its certificate is self-signed; give it one by an authority that is trusted here',
    },
  ],
  [
    'SELF_SIGNED_CERT_IN_CHAIN',
    {
      reason: 'tls_unknown_ca',
      message: 'its certificate is by an authority that is not trusted here; add that to the CA file',
    },
  ],
  [
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    {
      reason: 'tls_unknown_ca',
      message:
        'its certificate is by an authority that is not trusted here; check the CA file, and that the chain is sent',
    },
  ],
  [
    'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
    {
      reason: 'tls_unknown_ca',
      message:
        'its certificate is by an authority that is not trusted here; check the CA file, and that the chain is sent',
    },
  ],
  [
    'UNABLE_TO_GET_ISSUER_CERT',
    {
      reason: 'tls_unknown_ca',
      message:
        'the authority above its certificate is not known here; check the CA file, and that the chain is sent',
    },
  ],
  [
    'CERT_UNTRUSTED',
    { reason: 'tls_unknown_ca', message: 'its certificate is not trusted here; check the CA file' },
  ],
  ['CERT_REVOKED', { reason: 'tls_revoked', message: 'its certificate was revoked; give it another' }],
  [
    'INVALID_PURPOSE',
    {
      reason: 'tls_bad_certificate',
      message:
        'its certificate is not for this use; it needs the extended key usage of its side (serverAuth, clientAuth)',
    },
  ],
  [
    'CERT_SIGNATURE_FAILURE',
    {
      reason: 'tls_unknown_ca',
      message:
        'the signature of its certificate is wrong: an authority of that name, but with another key, is trusted here; check the CA file',
    },
  ],
  [
    'ERR_TLS_CERT_ALTNAME_INVALID',
    { reason: 'tls_wrong_name', message: 'its certificate is for another name' },
  ],
]);

/** Codes of OpenSSL's SSL errors; `ALERT` in one means that the peer sent the alert to us. */
const HANDSHAKE: readonly (readonly [RegExp, TlsReason, string])[] = [
  [
    /ALERT_NO_APPLICATION_PROTOCOL|NO_APPLICATION_PROTOCOL/,
    'tls_no_alpn',
    'one side offers no HTTP/2 (ALPN h2); gRPC needs it',
  ],
  [
    /ALERT_CERTIFICATE_REQUIRED/,
    'tls_no_certificate',
    'the peer wants a certificate of ours; set tls.cert and tls.key',
  ],
  [
    /PEER_DID_NOT_RETURN_A_CERTIFICATE/,
    'tls_no_certificate',
    'it shows no certificate, and one is required; set tls.cert and tls.key there',
  ],
  [/ALERT_CERTIFICATE_EXPIRED/, 'tls_expired', 'the peer says that our certificate has expired; renew it'],
  [/ALERT_UNKNOWN_CA/, 'tls_unknown_ca', 'the peer does not trust the authority of our certificate'],
  [/ALERT_CERTIFICATE_REVOKED/, 'tls_revoked', 'the peer says that our certificate was revoked'],
  [
    /ALERT_(BAD|UNSUPPORTED)_CERTIFICATE|ALERT_CERTIFICATE_UNKNOWN|ALERT_ACCESS_DENIED/,
    'tls_bad_certificate',
    'the peer refuses our certificate; see its log',
  ],
  [
    /UNSUPPORTED_PROTOCOL|ALERT_PROTOCOL_VERSION|VERSION_TOO_LOW|TLSV1_ALERT_INSUFFICIENT_SECURITY/,
    'tls_version',
    'one side does not speak TLS 1.3, the oldest version taken here',
  ],
  [
    /NO_SHARED_CIPHER|NO_SUITABLE|ALERT_HANDSHAKE_FAILURE/,
    'tls_handshake',
    'the two sides have no cipher, group or signature algorithm in common',
  ],
  [
    /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|RECORD_TOO_(LARGE|SMALL)|BAD_RECORD_TYPE/,
    'tls_plain_text',
    'the other side does not speak TLS; is it a plain text port, or an HTTP proxy?',
  ],
];

/** Returns the TLS error behind a socket's error; undefined when TLS did not cause it. */
export function tlsErrorOf(error: unknown): TlsError | undefined {
  if (error instanceof TlsError) return error;
  const { code, message } = (error ?? {}) as NodeJS.ErrnoException;
  if (typeof code !== 'string') return undefined;
  const certificate = CERTIFICATE.get(code);
  if (certificate !== undefined) {
    const detail = code === 'ERR_TLS_CERT_ALTNAME_INVALID' ? `: ${printable(message)}` : '';
    return new TlsError(certificate.reason, certificate.message + detail, error);
  }
  if (code === 'ERR_TLS_HANDSHAKE_TIMEOUT')
    return new TlsError('tls_timeout', 'the TLS handshake was not finished in time', error);
  if (!code.startsWith('ERR_SSL_') && code !== 'EPROTO') return certificateCode(code, error);
  const text = `${code} ${message.toUpperCase().replaceAll(' ', '_')}`;
  const found = HANDSHAKE.find(([pattern]) => pattern.test(text));
  if (found !== undefined) return new TlsError(found[1], found[2], error);
  return new TlsError('tls_handshake', `TLS failed (${code})`, error);
}

/** Handles all other X509_V_ERR names, which Node passes on unchanged: `PATH_LENGTH_EXCEEDED`, `HOSTNAME_MISMATCH`, … */
function certificateCode(code: string, error: unknown): TlsError | undefined {
  if (!/^(CERT_|CRL_|UNABLE_TO_|INVALID_|PATH_|HOSTNAME_|ERROR_IN_CERT)/.test(code)) return undefined;
  return new TlsError('tls_bad_certificate', `its certificate can't be used (${code})`, error);
}

/** Returns why the verification of the peer's certificate failed; undefined when it passed. */
export function verificationOf(socket: TLSSocket): TlsError | undefined {
  if (socket.authorized) return undefined;
  const code = String(socket.authorizationError ?? 'CERT_UNTRUSTED');
  const error = Object.assign(new Error(code), { code });
  return tlsErrorOf(error) ?? new TlsError('tls_bad_certificate', `its certificate can't be used (${code})`);
}

/** Makes text from a peer safe for our log lines: printable ASCII, at most 200 characters. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, 200);
}
