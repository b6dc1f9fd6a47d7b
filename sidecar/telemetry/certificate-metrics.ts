/** Metrics of our own certificates: their expiry, and problems with their files. */
import type { Sample, SampledMetric } from './sampled-metric.ts';

/** One of our certificates that comes from files. */
export interface MeasuredCertificate {
  /** The setting: `inbound.tls`, or `outbound.clusters.NAME.tls`. */
  readonly where: string;
  /**
   * The expiry in milliseconds since 1970; Infinity without a certificate. Undefined when the files have never been
   * valid.
   */
  readonly material:
    | { readonly expiresAtMs: number; readonly authorities: { readonly expiresAtMs: number } | undefined }
    | undefined;
  /** The setting of the certificate authorities: `inbound.tls.client_ca`, or `outbound.clusters.NAME.tls.ca`. */
  readonly whereAuthorities: string;
  /** Why the current files can't be used; '' when they can. */
  readonly problem: string;
}

type AddMetric = (
  type: SampledMetric['type'],
  name: string,
  help: string,
  read: () => Iterable<Sample>,
) => void;

export function addCertificates(add: AddMetric, certificates: () => Iterable<MeasuredCertificate>): void {
  add(
    'gauge',
    'outrigger_certificate_expiry_seconds',
    'Seconds until the certificate in use, or the last of the authorities, expires; below 0 once it has.',
    () => {
      const samples: Sample[] = [];
      const tell = (setting: string, expiresAtMs = Number.POSITIVE_INFINITY): void => {
        if (expiresAtMs === Number.POSITIVE_INFINITY) return;
        samples.push({ labels: { setting }, value: Math.round((expiresAtMs - Date.now()) / 1000) });
      };
      for (const { where, whereAuthorities, material } of certificates()) {
        tell(where, material?.expiresAtMs);
        tell(whereAuthorities, material?.authorities?.expiresAtMs);
      }
      return samples;
    },
  );
  add(
    'gauge',
    'outrigger_certificate_invalid',
    'Whether the files as they are now can not be used, so that an earlier state of them is: 1 or 0.',
    () =>
      Array.from(certificates(), ({ where, problem }) => ({
        labels: { setting: where },
        value: problem === '' ? 0 : 1,
      })),
  );
}
