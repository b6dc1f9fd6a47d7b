// Envoy set up to say what the sidecar is told in the fault suite, as far as Envoy has words for it.
//
// What it can't be told: to count errors in trailers, TaskResponse.status, or latency; to know a task by its id. It
// does not retry what was reset or lost (`reset`), because without de-duplication that runs tasks twice.
import type { ProxySettings } from '../../scripts/harness/faults/proxy.ts';

const TYPE = 'type.googleapis.com/envoy.extensions';
/** No limit to speak of. */
const MANY = 1_024;

export interface EnvoyPorts {
  /** `host:port`. */
  readonly inbound: string;
  readonly outbound: string;
  readonly admin: string;
}

/** The bootstrap file's content. */
export function envoyConfig(settings: ProxySettings, ports: EnvoyPorts): object {
  const listeners: object[] = [];
  const clusters: object[] = [];
  if (settings.app !== undefined) {
    listeners.push(
      listener('inbound', ports.inbound, { cluster: 'app', timeout: ms(settings.inboundTimeoutMs) }),
    );
    clusters.push(appCluster(settings));
  }
  if (settings.endpoints.length > 0) {
    listeners.push(listener('outbound', ports.outbound, outboundRoute(settings)));
    clusters.push(agentsCluster(settings));
  }
  return {
    admin: { address: socketAddress(ports.admin) },
    static_resources: { listeners, clusters },
  };
}

function outboundRoute({ timeoutMs, maxAttempts }: ProxySettings): object {
  return {
    cluster: 'agents',
    timeout: ms(timeoutMs),
    retry_policy: {
      retry_on: 'connect-failure,refused-stream,unavailable',
      num_retries: maxAttempts - 1,
      retry_back_off: { base_interval: '0.025s', max_interval: '0.25s' },
      retry_host_predicate: [
        {
          name: 'envoy.retry_host_predicates.previous_hosts',
          typed_config: { '@type': `${TYPE}.retry.host.previous_hosts.v3.PreviousHostsPredicate` },
        },
      ],
      host_selection_retry_max_attempts: 5,
    },
  };
}

function agentsCluster(settings: ProxySettings): object {
  const { endpoints, ejection } = settings;
  const byName = typeof endpoints === 'string';
  return {
    name: 'agents',
    ...(byName
      ? {
          type: 'STRICT_DNS',
          dns_refresh_rate: '0.5s',
          // As the sidecar does: the system's resolver, which also reads /etc/hosts.
          typed_dns_resolver_config: {
            name: 'envoy.network.dns_resolver.getaddrinfo',
            typed_config: {
              '@type': `${TYPE}.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig`,
            },
          },
        }
      : { type: 'STATIC' }),
    connect_timeout: ms(settings.connectTimeoutMs),
    lb_policy: settings.balancer === 'adaptive' ? 'LEAST_REQUEST' : 'ROUND_ROBIN',
    circuit_breakers: {
      thresholds: [
        {
          max_connections: MANY,
          max_pending_requests: MANY,
          max_requests: MANY,
          retry_budget: { budget_percent: { value: 20 }, min_retry_concurrency: 3 },
        },
      ],
    },
    outlier_detection: {
      consecutive_5xx: ejection.consecutiveFailures,
      consecutive_gateway_failure: ejection.consecutiveFailures,
      enforcing_consecutive_gateway_failure: 100,
      interval: ms(ejection.intervalMs),
      base_ejection_time: ms(ejection.baseMs),
      max_ejection_time: '300s',
      max_ejection_percent: ejection.maxPercent,
      // Rates that work with few replicas, where the defaults ask for five with 50 or 100 calls each.
      success_rate_minimum_hosts: 2,
      success_rate_request_volume: 10,
      failure_percentage_minimum_hosts: 2,
      failure_percentage_request_volume: 10,
      failure_percentage_threshold: 50,
      enforcing_failure_percentage: 100,
    },
    ...http2(),
    load_assignment: assignment('agents', byName ? [endpoints] : endpoints),
  };
}

function appCluster({ app, maxConcurrentCalls, connectTimeoutMs }: ProxySettings): object {
  const limit = maxConcurrentCalls || MANY;
  return {
    name: 'app',
    type: 'STATIC',
    connect_timeout: ms(connectTimeoutMs),
    circuit_breakers: { thresholds: [{ max_requests: limit, max_pending_requests: limit }] },
    ...http2(),
    load_assignment: assignment('app', [app!]),
  };
}

function listener(name: string, address: string, route: object): object {
  return {
    name,
    // For /drain_listeners?inboundonly.
    traffic_direction: name === 'inbound' ? 'INBOUND' : 'OUTBOUND',
    address: socketAddress(address),
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.http_connection_manager',
            typed_config: {
              '@type': `${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
              stat_prefix: name,
              codec_type: 'HTTP2',
              route_config: {
                virtual_hosts: [{ name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route }] }],
              },
              http_filters: [
                {
                  name: 'envoy.filters.http.router',
                  typed_config: { '@type': `${TYPE}.filters.http.router.v3.Router` },
                },
              ],
            },
          },
        ],
      },
    ],
  };
}

function http2(): object {
  const name = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
  return {
    typed_extension_protocol_options: {
      [name]: {
        '@type': `type.googleapis.com/${name}`,
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
  };
}

function assignment(name: string, endpoints: readonly string[]): object {
  const lbEndpoints = endpoints.map((endpoint) => ({ endpoint: { address: socketAddress(endpoint) } }));
  return { cluster_name: name, endpoints: [{ lb_endpoints: lbEndpoints }] };
}

function socketAddress(address: string): object {
  const at = address.lastIndexOf(':');
  return { socket_address: { address: address.slice(0, at), port_value: Number(address.slice(at + 1)) } };
}

/** A protobuf duration. */
function ms(value: number): string {
  return `${value / 1_000}s`;
}
