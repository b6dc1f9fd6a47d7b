/** The certificate of the MCP listener, which is read again when its files change. */
import { readFileSync, statSync } from 'node:fs';
import type { SecureContextOptions } from 'node:tls';

export interface CertificateFiles {
  cert: string;
  key: string;
  ca?: string | undefined;
}

const everyMs = 30_000;

export function certificates(files: CertificateFiles) {
  /** @throws Error if a file can't be read */
  const read = (): SecureContextOptions => ({
    cert: readFileSync(files.cert),
    key: readFileSync(files.key),
    ...(files.ca === undefined ? {} : { ca: readFileSync(files.ca) }),
    minVersion: 'TLSv1.2',
  });
  const stamp = () =>
    [files.cert, files.key, files.ca ?? files.cert].map((file) => statSync(file).mtimeMs).join();
  /** Returns what ends the watch. */
  const onChange = (
    use: (renewed: SecureContextOptions) => void,
    failed: (error: Error) => void,
  ): (() => void) => {
    let seen = stamp();
    const timer = setInterval(() => {
      try {
        const now = stamp();
        if (now === seen) return;
        use(read());
        seen = now;
      } catch (error) {
        failed(error as Error);
      }
    }, everyMs);
    timer.unref();
    return () => clearInterval(timer);
  };
  return { read, onChange };
}
