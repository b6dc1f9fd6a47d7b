/** Checks the TLS of a listener that serves callers with keys of ours: `llm.tls`, `mcp.tls`. */
import { checkCertificates, finding } from './file-checks.ts';
import type { Finding } from './problems.ts';

const NAMES = { ca: 'client_ca', cert: 'cert', key: 'key' } as const;

/** @param tls the section; undefined without one */
export function checkServiceTls(
  path: string[],
  listen: string,
  tls: { readonly cert: string; readonly key: string; readonly client_ca?: string | undefined } | undefined,
): Finding[] {
  if (tls === undefined) return [];
  const { cert, key, client_ca } = tls;
  const findings = checkCertificates(path, { cert, key, client_ca }, NAMES);
  if (listen.startsWith('unix:'))
    findings.push(
      finding(
        path,
        'can not be used on a unix socket',
        'remove it: the permissions of the file decide who may connect',
      ),
    );
  return findings;
}
