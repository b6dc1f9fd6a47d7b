/** Finds problems of our own certificates. Pure; times are milliseconds since 1970, as in certificates. */
import type { Finding } from './finding.ts';

export interface CertificateFacts {
  /** The setting: `inbound.tls`, or `outbound.clusters.NAME.tls`. */
  readonly setting: string;
  /** Infinity where we show no certificate. */
  readonly expiresAtMs: number;
  /** The same as ISO 8601; '' without a certificate. */
  readonly expires: string;
  readonly validFromMs: number;
  /** Why the current files are not usable; '' when they are. */
  readonly problem: string;
  /** A certificate, or authorities, are in use. */
  readonly inUse: boolean;
  /** It is an authority that checks others' certificates. */
  readonly isAuthority?: boolean;
}

/** Tools renew certificates long before this: cert-manager with a third left, SPIRE with a half. */
const LATE_SHARE = 0.15;
const LATE_MS = 7 * 86_400_000;

export function* certificateFindings(
  { setting, expiresAtMs, expires, validFromMs, problem, inUse, isAuthority = false }: CertificateFacts,
  wallMs: number,
): Generator<Finding> {
  const about = { setting };
  if (problem !== '')
    yield {
      kind: 'certificate_unusable',
      id: `files ${setting}`,
      severity: inUse ? 'warn' : 'bad',
      text: inUse
        ? `The certificate files of ${setting} can not be used, and those of before still are: ${problem}.`
        : `The certificate files of ${setting} can not be used: ${problem}.`,
      detail: '',
      about,
      numbers: {},
    };
  if (!Number.isFinite(expiresAtMs)) return;
  const what = isAuthority ? 'authority' : 'certificate';
  const leftMs = expiresAtMs - wallMs;
  const numbers = { expires_in_s: Math.round(leftMs / 1000) };
  if (leftMs <= 0)
    yield {
      kind: 'certificate_expired',
      id: `expiry ${setting}`,
      severity: 'bad',
      text: `The ${what} of ${setting} has expired (${expires}), and ${isAuthority ? 'no certificate by it is taken' : 'others refuse it'}: renew it.`,
      detail: '',
      about,
      numbers,
    };
  else if (leftMs < Math.min((expiresAtMs - validFromMs) * LATE_SHARE, LATE_MS))
    yield {
      kind: 'certificate_expires',
      id: `expiry ${setting}`,
      severity: 'warn',
      text: `The ${what} of ${setting} expires soon (${expires}) and has not been renewed.`,
      detail: '',
      about,
      numbers,
    };
}
