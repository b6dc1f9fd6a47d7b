/** Declares endpoints outside the mesh to Istio, so that other resources can refer to them. */
import type { ExternalDestination } from './destination.ts';
import { note, notesOf, type Resource, resource } from './resource.ts';

export function serviceEntry(destination: ExternalDestination): Resource {
  const { host, port, addresses, leftOut } = destination;
  const spec = {
    hosts: [host],
    location: 'MESH_EXTERNAL',
    resolution: addresses === undefined ? 'DNS' : 'STATIC',
    ports: [{ number: port, name: 'grpc', protocol: 'GRPC' }],
    endpoints: addresses?.map((each) => ({ address: each.address, ports: { grpc: each.port } })),
  };
  return resource(
    'ServiceEntry',
    destination,
    spec,
    notesOf(
      addresses !== undefined &&
        note(
          'hosts',
          `Callers connect to ${host}:${port}. The name needs an address: turn on Istio's DNS capture, or add an entry to your DNS.`,
        ),
      addresses === undefined &&
        note(
          'resolution',
          'dns, dns_refresh: Envoy resolves the name itself, again when the TTL of the answer ends.',
        ),
      leftOut.length > 0 &&
        note(
          'hosts',
          `endpoints ${leftOut.join(', ')}: a ServiceEntry has either one name or addresses; omitted.`,
        ),
    ),
  );
}
