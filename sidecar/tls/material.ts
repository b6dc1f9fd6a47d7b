/** Reads certificate, key and authorities from PEM files, as cert-manager and SPIFFE helpers write them, and checks them. */

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import { TypedError } from '../errors/typed-error.ts';
import { FileError, readRegularFile } from '../files/regular-file.ts';
import { identitiesOf } from './identity.ts';

/** Paths of PEM files. */
export interface TlsFiles {
  /** Our certificate, with its chain. */
  readonly cert: string | undefined;
  readonly key: string | undefined;
  /** The authorities, one of which must have issued the peer's certificate. */
  readonly ca: string | undefined;
}

/** Milliseconds since 1970. */
interface Validity {
  readonly expiresAtMs: number;
  readonly validFromMs: number;
}

/** The content of the files. */
export interface TlsMaterial {
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly ca: string | undefined;
  /** When our certificate expires, in milliseconds since 1970; Infinity without one. */
  readonly expiresAtMs: number;
  /** When our certificate becomes valid; -Infinity without one. */
  readonly validFromMs: number;
  /** The validity of the authority that expires last: while another one is valid, the end of one is a rotation. */
  readonly authorities: Validity | undefined;
  /** The identities in our certificate. */
  readonly identities: readonly string[];
}

/** A file can't be used. The message says why, `file` says which, and `remedy` what to do. */
export class TlsFileError extends TypedError {
  override readonly name = 'TlsFileError';
  override readonly source = 'ours';
  override readonly isSafeToRetry = true;
  /** Which of the files. */
  readonly file: keyof TlsFiles;
  readonly remedy: string;

  constructor(file: keyof TlsFiles, message: string, remedy: string) {
    super(message);
    this.file = file;
    this.remedy = remedy;
  }
}

const MAX_FILE_BYTES = 4_194_304;
const ENDLESS = { expiresAtMs: Number.POSITIVE_INFINITY, validFromMs: Number.NEGATIVE_INFINITY } as const;

/** Reads the files; throws TlsFileError. An expired certificate is no error here: the peer reports it. */
export function readMaterial(files: TlsFiles): TlsMaterial {
  const cert = read('cert', files.cert);
  const key = read('key', files.key);
  const ca = read('ca', files.ca);
  const authorities = ca === undefined ? undefined : checkAuthorities(ca);
  if (cert === undefined || key === undefined)
    return { cert: undefined, key: undefined, ca, authorities, identities: [], ...ENDLESS };
  const certificate = parseFirst('cert', cert);
  if (!belongsTo(certificate, key)) {
    throw new TlsFileError('key', 'is not the key of the certificate', 'give the two that belong together');
  }
  const { validFromMs, expiresAtMs } = validityOf(certificate);
  return { cert, key, ca, authorities, expiresAtMs, validFromMs, identities: identitiesOf(certificate) };
}

function read(file: keyof TlsFiles, path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  try {
    return readRegularFile(path, MAX_FILE_BYTES).toString('utf8');
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    const message =
      error.code === 'TOO_LARGE'
        ? 'is too large for certificates'
        : error.code === 'NOT_REGULAR'
          ? 'is not a regular file'
          : `can not be read (${error.code})`;
    throw new TlsFileError(file, message, 'give the path of a PEM file');
  }
}

function certificatesIn(pem: string): string[] {
  return (
    pem.match(/-----BEGIN (TRUSTED )?CERTIFICATE-----[\s\S]*?-----END (TRUSTED )?CERTIFICATE-----/g) ?? []
  );
}

function parseFirst(file: keyof TlsFiles, pem: string): X509Certificate {
  try {
    return new X509Certificate(certificatesIn(pem)[0] ?? '');
  } catch {
    throw new TlsFileError(
      file,
      'holds no certificate in PEM',
      'give a file with -----BEGIN CERTIFICATE-----',
    );
  }
}

/** Parses every authority: OpenSSL would silently ignore one that does not parse. */
function checkAuthorities(pem: string): Validity {
  const found = certificatesIn(pem);
  if (found.length === 0) parseFirst('ca', pem);
  return found
    .map((one) => validityOf(parseFirst('ca', one)))
    .reduce((one, other) => (other.expiresAtMs > one.expiresAtMs ? other : one));
}

function validityOf({ validFromDate, validToDate }: X509Certificate): Validity {
  return { expiresAtMs: validToDate.getTime(), validFromMs: validFromDate.getTime() };
}

function belongsTo(certificate: X509Certificate, key: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(key));
  } catch {
    throw new TlsFileError('key', 'holds no private key in PEM', 'give the key without a passphrase, in PEM');
  }
}

/** AES-128 first: it is as safe here as AES-256, and costs less for each record. */
const CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';

/** Makes a context that allows TLS 1.3 only (RFC 8446). */
export function contextOf({ cert, key, ca }: TlsMaterial): SecureContext {
  return createSecureContext({ cert, key, ca, ...PROTOCOL });
}

export const PROTOCOL = { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3', ciphers: CIPHERS } as const;

/** HTTP/2 over TLS (RFC 9113 §3.2). */
export const ALPN_H2 = 'h2';
