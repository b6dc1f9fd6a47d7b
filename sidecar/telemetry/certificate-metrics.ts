/** What is told of our own certificates. */
import type { Sample, SampledMetric } from './sampled-metric.ts';

/** A certificate of ours that comes from files. */
export interface MeasuredCertificate {
  /** The setting: `inbound.tls`, or `outbound.clusters.NAME.tls`. */
  readonly where: string;
  /** Since 1970; Infinity without a certificate. Undefined when the files were never right. */
  readonly material: { readonly expiresAtMs: number } | undefined;
  /** Why the files as they are now can't be used; '' when they can. */
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
    'Seconds until the certificate in use expires; below 0 once it has.',
    () => {
      const samples: Sample[] = [];
      for (const { where, material } of certificates()) {
        const expiresAtMs = material?.expiresAtMs ?? Number.POSITIVE_INFINITY;
        if (expiresAtMs === Number.POSITIVE_INFINITY) continue;
        samples.push({ labels: { setting: where }, value: Math.round((expiresAtMs - Date.now()) / 1000) });
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
