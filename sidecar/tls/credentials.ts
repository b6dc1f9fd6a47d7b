import { statSync } from 'node:fs';
import { readMaterial, TlsFileError, type TlsFiles, type TlsMaterial } from './material.ts';

/** Who hears of changes. */
export interface CredentialsListener {
  /** `where` names the setting: `inbound.tls`, or `outbound.clusters.NAME.tls`. */
  onCertificate(where: string, material: TlsMaterial, change: 'loaded' | 'replaced'): void;
  /** The files have changed and can't be used: what was in use stays. Told once for each state of the files. */
  onCertificateInvalid(where: string, error: TlsFileError): void;
}

/** For those who need not be told. */
export const NOBODY: CredentialsListener = { onCertificate() {}, onCertificateInvalid() {} };

/**
 * How often the files are looked at. Stats are asked for rather than events, as for the configuration file: a secret
 * volume swaps a link above the files, and sends none.
 */
const CERTIFICATE_POLL_MS = 1_000;

const PARTS = ['cert', 'key', 'ca'] as const;

/**
 * The certificates of one listener or cluster, kept in step with their files:
 *
 *     in use ──files changed──▶ changed ──same at the next look, and valid──▶ in use (new connections have the new one)
 *       ▲                          │ same at the next look, but not valid
 *       └──────────────────────────┴──▶ told once; the old one stays until the files change again
 *
 * Certificate and key are two files, so what is read between the two writes may not belong together: only what has
 * held still for one interval is judged, and what changes while it is read is read again.
 */
export class Credentials {
  readonly where: string;
  readonly files: TlsFiles;
  private readonly listener: CredentialsListener;
  private readonly onChange: (material: TlsMaterial) => void;
  private timer: NodeJS.Timeout | undefined = undefined;
  private judged = '';
  private seen = '';
  /** Undefined until the files could be used for the first time. */
  material: TlsMaterial | undefined = undefined;
  /** Why the files as they are now can't be used; '' when they can. */
  problem = '';

  /** @param onChange hears of each material before anybody else; also of the first */
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

  /** The setting of the authorities. */
  get whereAuthorities(): string {
    return `${this.where}.${this.where === 'inbound.tls' ? 'client_ca' : 'ca'}`;
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
    // A swap in the middle: the parts may be of two states.
    if (this.fingerprint() !== seen) return;
    this.judged = seen;
    this.problem = '';
    const before = this.material;
    if (before !== undefined && PARTS.every((part) => before[part] === material[part])) return;
    this.material = material;
    this.onChange(material);
    this.listener.onCertificate(this.where, material, before === undefined ? 'loaded' : 'replaced');
  }

  /** Changes with the content, the inode behind all links, and every write. */
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
