/** Warns of certificates in the configuration's files that have expired or soon will; files that are unusable are problems. */
import { certificateFindings } from '../policy/now/certificates.ts';
import { readMaterial, TlsFileError, type TlsFiles } from '../tls/material.ts';
import type { Finding, Path } from './problems.ts';
import type { FileConfig } from './schema.ts';

/** @param wallMs milliseconds since 1970 */
export function certificateWarnings(file: FileConfig, wallMs: number): Finding[] {
  const { tls } = file.inbound;
  const clusters = Object.entries(file.outbound.clusters).flatMap(([name, cluster]) =>
    cluster.tls === undefined
      ? []
      : datesOf(['outbound', 'clusters', name, 'tls'], cluster.tls, 'ca', wallMs),
  );
  if (tls === undefined) return clusters;
  const { cert, key, client_ca: ca } = tls;
  return [...datesOf(['inbound', 'tls'], { cert, key, ca }, 'client_ca', wallMs), ...clusters];
}

function datesOf(
  path: Path,
  { cert, key, ca }: { [Part in keyof TlsFiles]?: string | undefined },
  caKey: string,
  wallMs: number,
): Finding[] {
  try {
    const { authorities, ...own } = readMaterial({ cert, key, ca });
    return [
      ...datedFindings([...path, 'cert'], own, false, wallMs),
      ...(authorities === undefined ? [] : datedFindings([...path, caKey], authorities, true, wallMs)),
    ];
  } catch (error) {
    // The check of the files reports it.
    if (error instanceof TlsFileError) return [];
    throw error;
  }
}

function datedFindings(
  path: Path,
  { expiresAtMs, validFromMs }: { readonly expiresAtMs: number; readonly validFromMs: number },
  isAuthority: boolean,
  wallMs: number,
): Finding[] {
  if (!Number.isFinite(expiresAtMs)) return [];
  const expires = new Date(expiresAtMs).toISOString();
  const facts = { setting: '', expiresAtMs, expires, validFromMs, problem: '', inUse: true, isAuthority };
  return Array.from(certificateFindings(facts, wallMs), ({ kind }) => ({
    path,
    part: 'value',
    message: kind === 'certificate_expired' ? `has expired (${expires})` : `expires soon (${expires})`,
    remedy: 'renew it; the sidecar reads the files again when they change',
  }));
}
