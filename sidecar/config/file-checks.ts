/** Checks that the files which settings name are there, and hold what they should. */
import { accessSync, constants, statSync } from 'node:fs';
import { readMaterial, TlsFileError, type TlsFiles } from '../tls/material.ts';
import type { Finding, Path } from './problems.ts';

/** Checks at the start that the files hold what they should, before a connection needs them. */
export function checkCertificates(
  path: Path,
  section: Readonly<Record<string, unknown>>,
  names: Readonly<Record<keyof TlsFiles, string>>,
): Finding[] {
  const fileOf = (part: keyof TlsFiles) => section[names[part]] as string | undefined;
  const files = { cert: fileOf('cert'), key: fileOf('key'), ca: fileOf('ca') };
  const findings = checkFiles(path, section as Record<string, string | undefined>, Object.values(names));
  if (findings.length > 0) return findings;
  try {
    readMaterial(files);
    return [];
  } catch (error) {
    if (!(error instanceof TlsFileError)) throw error;
    return [finding([...path, names[error.file]], error.message, error.remedy)];
  }
}

export function checkFiles(
  path: Path,
  section: Readonly<Record<string, string | null | undefined>>,
  keys: string[],
  wanted = 'a PEM file',
): Finding[] {
  return keys.flatMap((key) => {
    const file = section[key];
    if (file === undefined || file === null) return [];
    try {
      accessSync(file, constants.R_OK);
      if (statSync(file).isFile()) return [];
    } catch {
      // The file is missing or unreadable: the remedy is the same.
    }
    // The message leaves the name out: an operator may have put the key itself here.
    return [finding([...path, key], 'is not the path of a readable file', `give the path of ${wanted}`)];
  });
}

export function finding(path: Path, message: string, remedy: string): Finding {
  return { path, part: 'value', message, remedy };
}
