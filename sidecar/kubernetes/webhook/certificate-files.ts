/** Reads the webhook's certificate from files. */
import { createPrivateKey } from 'node:crypto';
import { TypedError } from '../../errors/typed-error.ts';
import { type FileError, readRegularFile } from '../../files/regular-file.ts';
import { type CertificateMaterial, parse } from './certificate.ts';

const MAX_FILE_BYTES = 4_194_304;

/** The files are unusable; the message says which and why. */
class CertificateFileError extends TypedError {
  override readonly name = 'CertificateFileError';
  override readonly source = 'ours';
  override readonly isSafeToRetry = true;
}

/**
 * A certificate from files, as cert-manager writes them. Each tick reads them again, and serves the certificate if it
 * has changed.
 */
export class CertificateFiles {
  private readonly certFile: string;
  private readonly keyFile: string;
  private readonly now: () => number;
  private readonly serve: (material: Pick<CertificateMaterial, 'cert' | 'key'>) => void;
  private served = '';
  expiresAtMs = 0;

  constructor(
    files: { readonly cert: string; readonly key: string },
    now: () => number,
    serve: (material: Pick<CertificateMaterial, 'cert' | 'key'>) => void,
  ) {
    this.certFile = files.cert;
    this.keyFile = files.key;
    this.now = now;
    this.serve = serve;
  }

  get notReadyBecause(): string | undefined {
    if (this.served === '') return `${this.certFile} has no certificate yet`;
    return this.expiresAtMs <= this.now() ? `the certificate in ${this.certFile} has expired` : undefined;
  }

  /** Throws CertificateFileError; the webhook then keeps its current certificate. */
  async tick(): Promise<void> {
    const cert = read(this.certFile);
    const key = read(this.keyFile);
    if (this.served === cert + key) return;
    const parsed = parse(cert);
    if (parsed === undefined) throw new CertificateFileError(`${this.certFile} is not a certificate in PEM`);
    // The two files are written one after the other, and may not match for a moment.
    if (!belongsTo(parsed, key))
      throw new CertificateFileError(`${this.keyFile} is not the key of ${this.certFile}`);
    this.served = cert + key;
    this.expiresAtMs = parsed.validToDate.getTime();
    this.serve({ cert, key });
  }
}

function belongsTo(certificate: NonNullable<ReturnType<typeof parse>>, key: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(key));
  } catch {
    return false;
  }
}

/**
 * Reads regular files only: a read that blocks, for instance on a FIFO's writer, would occupy a thread of the small
 * pool that the whole process shares.
 */
function read(file: string): string {
  try {
    return readRegularFile(file, MAX_FILE_BYTES).toString('utf8');
  } catch (error) {
    throw new CertificateFileError(`${file} can't be read (${(error as FileError).code}); check the path`);
  }
}
