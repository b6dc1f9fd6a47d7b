/** Creates and checks the webhook's certificates. */
import 'reflect-metadata';
import { createPrivateKey, X509Certificate as NodeCertificate, randomBytes, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import * as x509 from '@peculiar/x509';

/** The server's certificate and its authorities, in PEM. */
export interface CertificateMaterial {
  /** Every authority to trust now: the newest first, then earlier ones that have not expired. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface CertificateRequest {
  /** DNS names or IP addresses; the first one is the subject. */
  readonly names: readonly string[];
  readonly nowMs: number;
  readonly lifetimeMs: number;
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
/** The tolerated difference between the clocks of the API server and of this pod. */
const SKEW_MS = 5 * 60_000;

/**
 * Creates an authority and one certificate signed by it. The authority's key is never stored: each rotation has a new
 * authority, and no further certificate can be signed by the old one.
 */
export async function makeCertificate(request: CertificateRequest): Promise<CertificateMaterial> {
  const { names, nowMs, lifetimeMs } = request;
  const [caKeys, keys] = await Promise.all([generateKeys(), generateKeys()]);
  const validity = { notBefore: new Date(nowMs - SKEW_MS), notAfter: new Date(nowMs + lifetimeMs) };
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity,
    name: `CN=outrigger-webhook-ca-${randomBytes(4).toString('hex')}`,
    serialNumber: serialNumber(),
    signingAlgorithm: ALGORITHM,
    keys: caKeys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(caKeys.publicKey, false),
    ],
  });
  const cert = await x509.X509CertificateGenerator.create({
    ...validity,
    // A common name has 64 characters at most (RFC 5280, appendix A.1); clients check the names below.
    subject: 'CN=outrigger-webhook',
    issuer: ca.subject,
    serialNumber: serialNumber(),
    signingAlgorithm: ALGORITHM,
    signingKey: caKeys.privateKey,
    publicKey: keys.publicKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth], false),
      new x509.SubjectAlternativeNameExtension(
        names.map((name) => ({ type: isIP(name) === 0 ? ('dns' as const) : ('ip' as const), value: name })),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(ca, false),
    ],
  });
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return {
    ca: `${ca.toString('pem')}\n`,
    cert: `${cert.toString('pem')}\n`,
    key: `${x509.PemConverter.encode(pkcs8, 'PRIVATE KEY')}\n`,
  };
}

function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

/** A positive number of 16 random bytes: RFC 5280, section 4.1.2.2. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes.toString('hex');
}

/** The unexpired authorities of `ca`, after the newest one. */
export function withOlderAuthorities(
  newest: CertificateMaterial,
  ca: string,
  nowMs: number,
): CertificateMaterial {
  const older = [...new Set(certificatesIn(ca))].filter((pem) => {
    const parsed = parse(pem);
    return parsed !== undefined && parsed.validToDate.getTime() > nowMs && !newest.ca.includes(pem);
  });
  // No replica still uses the authority of two rotations ago.
  return {
    ...newest,
    ca:
      newest.ca +
      older
        .slice(0, 2)
        .map((pem) => `${pem}\n`)
        .join(''),
  };
}

export function certificatesIn(pem: string): string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
}

/**
 * Whether the material can be served: it parses, key and certificate match, the first authority signed it, and it has
 * these names. Returns the times of its validity, or why it is unusable.
 */
export function inspect(
  material: CertificateMaterial,
  names: readonly string[],
): { notBeforeMs: number; notAfterMs: number } | { unusable: string } {
  const cert = parse(material.cert);
  const ca = parse(certificatesIn(material.ca)[0] ?? '');
  if (cert === undefined || ca === undefined) return { unusable: 'it does not parse' };
  try {
    if (!cert.checkPrivateKey(createPrivateKey(material.key)))
      return { unusable: 'the key does not match the certificate' };
    if (!cert.verify(ca.publicKey)) return { unusable: 'another authority signed it' };
  } catch (error) {
    return { unusable: (error as Error).message };
  }
  const missing = names.find(
    (name) => (isIP(name) === 0 ? cert.checkHost(name) : cert.checkIP(name)) === undefined,
  );
  if (missing !== undefined) return { unusable: `it lacks the name ${missing}` };
  return { notBeforeMs: cert.validFromDate.getTime(), notAfterMs: cert.validToDate.getTime() };
}

export function parse(pem: string): NodeCertificate | undefined {
  try {
    return new NodeCertificate(pem);
  } catch {
    return undefined;
  }
}
