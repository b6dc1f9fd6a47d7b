// Certificates for one test, similar to those of a cluster's authority.
import 'reflect-metadata';
import { randomBytes, webcrypto } from 'node:crypto';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import type { Test } from 'tap';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const HOUR_MS = 3_600_000;

export interface IssueOptions {
  /** DNS names, IP addresses and URIs. */
  readonly names?: readonly string[];
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
  readonly usages?: readonly x509.ExtendedKeyUsage[];
}

export interface Issued {
  readonly cert: string;
  readonly key: string;
}

const newKeys = (): Promise<webcrypto.CryptoKeyPair> =>
  webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);

const serialNumber = (): string => `40${randomBytes(8).toString('hex')}`;

async function keyPem(keys: webcrypto.CryptoKeyPair): Promise<string> {
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return `${x509.PemConverter.encode(pkcs8, 'PRIVATE KEY')}\n`;
}

const alternativeNames = (names: readonly string[]): x509.SubjectAlternativeNameExtension =>
  new x509.SubjectAlternativeNameExtension(
    names.map((value) => {
      if (value.includes('://')) return { type: 'url' as const, value };
      return { type: isIP(value) === 0 ? ('dns' as const) : ('ip' as const), value };
    }),
  );

/** An authority that signs certificates. */
export class TestAuthority {
  readonly ca: string;
  private readonly keys: webcrypto.CryptoKeyPair;
  private readonly certificate: x509.X509Certificate;

  private constructor(keys: webcrypto.CryptoKeyPair, certificate: x509.X509Certificate) {
    this.keys = keys;
    this.certificate = certificate;
    this.ca = `${certificate.toString('pem')}\n`;
  }

  static async make(
    name = 'test',
    validity: { notBeforeMs?: number; notAfterMs?: number } = {},
  ): Promise<TestAuthority> {
    const { notBeforeMs = Date.now() - 48 * HOUR_MS, notAfterMs = Date.now() + 48 * HOUR_MS } = validity;
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      name: `CN=${name} authority ${randomBytes(4).toString('hex')}`,
      notBefore: new Date(notBeforeMs),
      notAfter: new Date(notAfterMs),
      serialNumber: serialNumber(),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false),
      ],
    });
    return new TestAuthority(keys, certificate);
  }

  async issue({ names = [], notBeforeMs, notAfterMs, usages }: IssueOptions = {}): Promise<Issued> {
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.create({
      subject: 'CN=workload',
      issuer: this.certificate.subject,
      notBefore: new Date(notBeforeMs ?? Date.now() - HOUR_MS),
      notAfter: new Date(notAfterMs ?? Date.now() + HOUR_MS),
      serialNumber: serialNumber(),
      signingAlgorithm: ALGORITHM,
      signingKey: this.keys.privateKey,
      publicKey: keys.publicKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.ExtendedKeyUsageExtension(
          [...(usages ?? [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth])],
          false,
        ),
        ...(names.length > 0 ? [alternativeNames(names)] : []),
        await x509.AuthorityKeyIdentifierExtension.create(this.certificate, false),
      ],
    });
    return { cert: `${certificate.toString('pem')}\n`, key: await keyPem(keys) };
  }
}

/** A self-signed certificate. */
export async function selfSigned(names: readonly string[]): Promise<Issued> {
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=workload',
    notBefore: new Date(Date.now() - HOUR_MS),
    notAfter: new Date(Date.now() + HOUR_MS),
    serialNumber: serialNumber(),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [alternativeNames(names)],
  });
  return { cert: `${certificate.toString('pem')}\n`, key: await keyPem(keys) };
}

/**
 * Paths of the files in a folder, as the kubelet mounts a Secret: a link to a link to a folder that is swapped as a
 * whole.
 */
export class SecretVolume {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
  private readonly folder: string;
  private version = 0;

  constructor(t: Pick<Test, 'teardown'>, content: Issued & { readonly ca: string }) {
    this.folder = mkdtempSync(join(tmpdir(), 'outrigger-certs-'));
    t.teardown(() => rmSync(this.folder, { recursive: true, force: true }));
    this.cert = join(this.folder, 'tls.crt');
    this.key = join(this.folder, 'tls.key');
    this.ca = join(this.folder, 'ca.crt');
    this.replace(content);
    for (const name of ['tls.crt', 'tls.key', 'ca.crt'])
      symlinkSync(join('..data', name), join(this.folder, name));
  }

  /** Replaces all files in one step. */
  replace({ cert, key, ca }: Issued & { readonly ca: string }): void {
    const name = `..v${++this.version}`;
    mkdirSync(join(this.folder, name));
    writeFileSync(join(this.folder, name, 'tls.crt'), cert);
    writeFileSync(join(this.folder, name, 'tls.key'), key);
    writeFileSync(join(this.folder, name, 'ca.crt'), ca);
    symlinkSync(name, join(this.folder, '..data_tmp'));
    renameSync(join(this.folder, '..data_tmp'), join(this.folder, '..data'));
  }
}

export const { ExtendedKeyUsage } = x509;
