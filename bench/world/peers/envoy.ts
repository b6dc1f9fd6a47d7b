// Envoy with what a service mesh turns on for a gRPC service: least request over two choices, retries, outlier detection,
// a timeout, circuit breaker limits, and its usual statistics; TLS and tracing where they are measured.
import type { Setup, TlsFiles } from '../setup.ts';

const TYPES = 'type.googleapis.com/envoy';
type Shape = Pick<Setup, 'endpoints' | 'downstreamTls' | 'upstreamTls' | 'tracing'>;

/** More than the calls that are ever open at once. */
const MANY = 20_000;

export function envoyConfig(port: number, { endpoints, downstreamTls, upstreamTls, tracing }: Shape): object {
  return {
    static_resources: {
      listeners: [
        {
          name: 'downstream',
          address: address(`127.0.0.1:${port}`),
          filter_chains: [
            {
              filters: [connectionManager(tracing)],
              ...(downstreamTls === undefined ? {} : { transport_socket: downstreamSocket(downstreamTls) }),
            },
          ],
        },
      ],
      clusters: [
        {
          name: 'upstream',
          connect_timeout: '5s',
          lb_policy: 'LEAST_REQUEST',
          circuit_breakers: {
            thresholds: [
              { max_connections: MANY, max_pending_requests: MANY, max_requests: MANY, max_retries: 100 },
            ],
          },
          outlier_detection: { consecutive_5xx: 5, interval: '30s', base_ejection_time: '30s' },
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': `${TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions`,
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
          ...staticEndpoints('upstream', endpoints),
          ...(upstreamTls === undefined ? {} : { transport_socket: upstreamSocket(upstreamTls) }),
        },
        ...(tracing === undefined
          ? []
          : [
              {
                name: 'collector',
                connect_timeout: '5s',
                ...staticEndpoints('collector', [`127.0.0.1:${tracing.collectorPort}`]),
              },
            ]),
      ],
    },
  };
}

function connectionManager(tracing: Setup['tracing']): object {
  return {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: {
      '@type': `${TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`,
      stat_prefix: 'downstream',
      codec_type: 'HTTP2',
      // Small chunks that come faster than the caller reads them are taken for a flood at 10,000 frames.
      http2_protocol_options: { max_outbound_frames: 10_000_000 },
      // Not a feature of the others, so it would only cost Envoy time.
      generate_request_id: false,
      ...(tracing === undefined ? {} : { tracing: openTelemetry(tracing) }),
      route_config: {
        virtual_hosts: [
          {
            name: 'all',
            domains: ['*'],
            routes: [
              {
                match: { prefix: '/' },
                route: {
                  cluster: 'upstream',
                  timeout: '600s',
                  retry_policy: { retry_on: 'unavailable,refused-stream,connect-failure', num_retries: 2 },
                },
              },
            ],
          },
        ],
      },
      http_filters: [
        {
          name: 'envoy.filters.http.router',
          typed_config: { '@type': `${TYPES}.extensions.filters.http.router.v3.Router` },
        },
      ],
    },
  };
}

/** For the share of calls that is asked for, over HTTP; the usual two spans, of the call and of the attempt. */
function openTelemetry({ percent, collectorPort }: NonNullable<Setup['tracing']>): object {
  return {
    random_sampling: { value: percent },
    spawn_upstream_span: true,
    provider: {
      name: 'envoy.tracers.opentelemetry',
      typed_config: {
        '@type': `${TYPES}.config.trace.v3.OpenTelemetryConfig`,
        service_name: 'envoy',
        http_service: {
          http_uri: {
            uri: `http://127.0.0.1:${collectorPort}/v1/traces`,
            cluster: 'collector',
            timeout: '5s',
          },
        },
      },
    },
  };
}

/** Callers must show a certificate of the authority, over TLS 1.3. */
function downstreamSocket(files: TlsFiles): object {
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': `${TYPES}.extensions.transport_sockets.tls.v3.DownstreamTlsContext`,
      require_client_certificate: true,
      common_tls_context: commonTls(files),
    },
  };
}

function upstreamSocket(files: TlsFiles): object {
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': `${TYPES}.extensions.transport_sockets.tls.v3.UpstreamTlsContext`,
      sni: 'localhost',
      common_tls_context: commonTls(files),
    },
  };
}

function commonTls({ cert, key, ca }: TlsFiles): object {
  return {
    alpn_protocols: ['h2'],
    tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
    tls_certificates: [{ certificate_chain: { filename: cert }, private_key: { filename: key } }],
    validation_context: { trusted_ca: { filename: ca } },
  };
}

function staticEndpoints(cluster: string, addresses: readonly string[]): object {
  return {
    type: 'STATIC',
    load_assignment: {
      cluster_name: cluster,
      endpoints: [
        { lb_endpoints: addresses.map((endpoint) => ({ endpoint: { address: address(endpoint) } })) },
      ],
    },
  };
}

function address(text: string): object {
  const [host, port] = text.split(':');
  return { socket_address: { address: host, port_value: Number(port) } };
}
