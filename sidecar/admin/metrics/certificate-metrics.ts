/** Metrics of our own certificates: their expiry, and problems with their files. */
import type { MeasuredCertificate } from './metrics-source.ts';
import type { AddMetric, Sample } from './sampled-metric.ts';

export function addCertificates(add: AddMetric, certificates: () => Iterable<MeasuredCertificate>): void {
  add(
    'gauge',
    'outrigger_certificate_expiry_seconds',
    'Seconds until the certificate in use, or the last of the authorities, expires; negative after its expiry.',
    () => {
      const samples: Sample[] = [];
      const addSample = (setting: string, expiresAtMs = Number.POSITIVE_INFINITY): void => {
        if (expiresAtMs === Number.POSITIVE_INFINITY) return;
        samples.push({ labels: { setting }, value: Math.round((expiresAtMs - Date.now()) / 1000) });
      };
      for (const { where, whereAuthorities, material } of certificates()) {
        addSample(where, material?.expiresAtMs);
        addSample(whereAuthorities, material?.authorities?.expiresAtMs);
      }
      return samples;
    },
  );
  add(
    'gauge',
    'outrigger_certificate_invalid',
    'Whether the present files are invalid and an earlier certificate is in use: 1 or 0.',
    () =>
      Array.from(certificates(), ({ where, problem }) => ({
        labels: { setting: where },
        value: problem === '' ? 0 : 1,
      })),
  );
}
