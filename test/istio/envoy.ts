// The bootstrap of a plain Envoy that asks istiod for everything, as the proxy of a pod of the gateway.

/**
 * @param xds the port of istiod's xDS on this machine
 * @param admin the port that Envoy shall have for its own pages
 */
export function bootstrap(xds: number, admin: number): object {
  const at = (port: number) => ({
    endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } },
  });
  const h2 = {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: {} },
    },
  };
  const upstream = (name: string, port: number) => ({
    name,
    type: 'STATIC',
    connect_timeout: '5s',
    typed_extension_protocol_options: h2,
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [at(port)] }] },
  });
  const ads = { ads: {}, initial_fetch_timeout: '0s', resource_api_version: 'V3' };
  return {
    node: {
      id: 'sidecar~10.0.0.1~gateway-0.agents~agents.svc.cluster.local',
      cluster: 'gateway.agents',
      metadata: {
        NAMESPACE: 'agents',
        CLUSTER_ID: 'Kubernetes',
        INTERCEPTION_MODE: 'NONE',
        ISTIO_VERSION: '1.31.0',
        SERVICE_ACCOUNT: 'gateway',
        LABELS: { 'app.kubernetes.io/name': 'gateway' },
      },
    },
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: admin } } },
    dynamic_resources: {
      ads_config: {
        api_type: 'GRPC',
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds-grpc' } }],
      },
      cds_config: ads,
      lds_config: ads,
    },
    // Certificates would come from the agent beside the proxy; nobody is there, so mutual TLS is for the first test only.
    static_resources: { clusters: [upstream('xds-grpc', xds), upstream('sds-grpc', 9)] },
  };
}
