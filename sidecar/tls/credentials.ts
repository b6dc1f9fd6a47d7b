/** Watches the certificate files of one listener or cluster, and loads them when they change. */
import { statSync } from 'node:fs';
import { readMaterial, TlsFileError, type TlsFiles, type TlsMaterial } from './material.ts';

/** Receives the changes of certificates. */
export interface CredentialsListener {
  /** `where` names the setting: `inbound.tls`, or `outbound.clusters.NAME.tls`. */
  onCertificate(where: string, material: TlsMaterial, change: 'loaded' | 'replaced'): void;
  /** The files have changed and can't be used; the old certificate stays in use. Called once for each state of the files. */
  onCertificateInvalid(where: string, error: TlsFileError): void;
}

/** A listener that does nothing. */
export const NOBODY: CredentialsListener = { onCertificate() {}, onCertificateInvalid() {} };

/**
 * How often {@link Credentials} polls the files. It polls rather than waiting for events, as the configuration does: a
 * secret volume swaps a link above the files, and that causes no event for them.
 */
const CERTIFICATE_POLL_MS = 1_000;

const PARTS = ['cert', 'key', 'ca'] as const;

/**
 * The certificates of one listener or cluster, kept up to date with their files:
 *
 *     in use ──files changed──▶ changed ──unchanged at the next poll, valid──▶ in use (new connections have the new one)
 *       ▲                          │ unchanged at the next poll, but not valid
 *       └──────────────────────────┴──▶ reported once; the old one stays until the files change again
 *
 * Certificate and key are two files, and a read between the two writes may get parts that do not belong together. So
 * Credentials reads files only when they have not changed for one interval, and again when they change during the read.
 */
export class Credentials {
  readonly where: string;
  readonly files: TlsFiles;
  private readonly listener: CredentialsListener;
  private readonly onChange: (material: TlsMaterial) => void;
  private timer: NodeJS.Timeout | undefined = undefined;
  private judged = '';
  private seen = '';
  /** Undefined until the first valid files. */
  material: TlsMaterial | undefined = undefined;
  /** Why the present files can't be used; '' when they can. */
  problem = '';

  /** @param onChange called with each new material, also the first, before the listener */
  constructor(
    where: string,
    files: TlsFiles,
    listener: CredentialsListener,
    onChange: (material: TlsMaterial) => void,
    pollMs = CERTIFICATE_POLL_MS,
  ) {
    this.where = where;
    this.files = files;
    this.listener = listener;
    this.onChange = onChange;
    this.seen = this.fingerprint();
    this.judge();
    this.timer = setInterval(() => this.look(), pollMs).unref();
  }

  /** The name of the setting that has the authorities. */
  get whereAuthorities(): string {
    return `${this.where}.${this.where.startsWith('outbound.') ? 'ca' : 'client_ca'}`;
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private look(): void {
    const now = this.fingerprint();
    const still = now === this.seen;
    this.seen = now;
    if (still && now !== this.judged) this.judge();
  }

  private judge(): void {
    const { seen } = this;
    let material: TlsMaterial;
    try {
      material = readMaterial(this.files);
    } catch (error) {
      if (!(error instanceof TlsFileError)) throw error;
      this.judged = seen;
      this.problem = `${this.files[error.file]} ${error.message}; ${error.remedy}`;
      this.listener.onCertificateInvalid(this.where, error);
      return;
    }
    // The files changed during the read, so the parts may not belong together.
    if (this.fingerprint() !== seen) return;
    this.judged = seen;
    this.problem = '';
    const before = this.material;
    if (before !== undefined && PARTS.every((part) => before[part] === material[part])) return;
    this.material = material;
    this.onChange(material);
    this.listener.onCertificate(this.where, material, before === undefined ? 'loaded' : 'replaced');
  }

  /** A text that changes with the content, the inode behind all links, and every write. */
  private fingerprint(): string {
    return PARTS.map((part) => describe(this.files[part])).join();
  }
}

function describe(path: string | undefined): string {
  if (path === undefined) return '';
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
