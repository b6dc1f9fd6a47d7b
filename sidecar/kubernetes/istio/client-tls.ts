/** TLS of a caller's proxy: the mesh's own TLS to a Service, certificate files to hosts outside. */
import { hostName } from '../../cluster/authority.ts';
import type { ClusterConfig } from '../../config/config.ts';
import type { Destination } from './destination.ts';
import { note, notesOf, type Part } from './resource.ts';

export function clientTls({ tls }: ClusterConfig, destination: Destination): Part {
  if (destination.kind === 'service') {
    const says =
      tls === undefined
        ? 'tls: none in the configuration; Istio brings mutual TLS all the same.'
        : "tls: the sidecar's files are not used; certificates are Istio's own. server_name and allow_identities: the callee must have the service account that its pods have, as Istio finds out by itself.";
    return { fields: { mode: 'ISTIO_MUTUAL' }, notes: [note('mode', says)] };
  }
  if (tls === undefined) {
    const says = 'tls: none in the configuration, and outside the mesh there is none by itself.';
    return { fields: { mode: 'DISABLE' }, notes: [note('mode', says)] };
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
          "The files must be in the caller's istio-proxy container: sidecar.istio.io/userVolumeMount brings them there.",
        ),
      patterns.length > 0 &&
        note(
          'mode',
          `tls.allow_identities ${patterns.join(', ')}: subjectAltNames takes no patterns; left out.`,
        ),
    ),
  };
}
