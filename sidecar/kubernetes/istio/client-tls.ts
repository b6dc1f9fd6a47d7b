/** TLS of a caller's proxy: the mesh's own TLS to a Service, certificate files to hosts outside. */
import type { ClusterConfig } from '../../config/config.ts';
import { hostName } from '../../net/authority.ts';
import type { Destination } from './destination.ts';
import { note, notesOf, type Part } from './resource.ts';

export function clientTls({ tls }: ClusterConfig, destination: Destination): Part {
  if (destination.kind === 'service') {
    const text =
      tls === undefined
        ? 'tls: the configuration has none; Istio uses mutual TLS between pods of the mesh anyway.'
        : "tls: Istio uses its own certificates instead of the sidecar's files. server_name and allow_identities: Istio itself looks up the service account of the callee's pods, and requires it.";
    return { fields: { mode: 'ISTIO_MUTUAL' }, notes: [note('mode', text)] };
  }
  if (tls === undefined) {
    const text = 'tls: the configuration has none, and Istio adds none for hosts outside the mesh.';
    return { fields: { mode: 'DISABLE' }, notes: [note('mode', text)] };
  }
  const mutual = tls.cert !== undefined;
  const patterns = tls.allowIdentities.filter((name) => name.includes('*'));
  const names = tls.allowIdentities.filter((name) => !name.includes('*'));
  if (tls.allowIdentities.length === 0 && tls.serverName !== undefined) names.push(hostName(tls.serverName));
  return {
    fields: {
      mode: mutual ? 'MUTUAL' : 'SIMPLE',
      clientCertificate: tls.cert,
      privateKey: tls.key,
      caCertificates: tls.ca,
      sni:
        hostName(tls.serverName ?? (destination.addresses === undefined ? destination.host : '')) ||
        undefined,
      subjectAltNames: names.length === 0 ? undefined : names,
    },
    notes: notesOf(
      (mutual || tls.ca !== undefined) &&
        note(
          'mode',
          "The files must be in the caller's istio-proxy container: the annotation sidecar.istio.io/userVolumeMount mounts them there.",
        ),
      patterns.length > 0 &&
        note(
          'mode',
          `tls.allow_identities ${patterns.join(', ')}: subjectAltNames takes no patterns; omitted.`,
        ),
    ),
  };
}
