// The sidecar's configuration for what is measured: the defaults, but for addresses and for limits that the streams of
// some sections would reach.
import type { Setup } from '../setup.ts';

type Shape = Pick<Setup, 'endpoints' | 'downstreamTls' | 'upstreamTls' | 'inbound' | 'cluster'>;

/** More than the calls that are ever open at once. */
const MANY = 20_000;

export function inboundConfig({ endpoints, downstreamTls, inbound }: Shape): object {
  const tls = downstreamTls && {
    cert: downstreamTls.cert,
    key: downstreamTls.key,
    client_ca: downstreamTls.ca,
  };
  return {
    inbound: {
      app: endpoints[0],
      timeout: '10m',
      max_concurrent_calls: MANY,
      ...(tls && { tls }),
      ...inbound,
    },
  };
}

export function outboundConfig({ endpoints, upstreamTls, cluster }: Shape): object {
  const tls = upstreamTls && {
    ca: upstreamTls.ca,
    cert: upstreamTls.cert,
    key: upstreamTls.key,
    server_name: 'localhost',
  };
  return {
    outbound: {
      routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }],
      clusters: {
        upstream: {
          endpoints,
          timeout: '10m',
          limits: { max_concurrent_calls: MANY, max_pending_calls: MANY },
          ...(tls && { tls }),
          ...cluster,
        },
      },
    },
  };
}

/** Tracing follows the standard variables, and is off without them. */
export function tracingEnvironment(tracing: Setup['tracing']): Record<string, string> {
  if (tracing === undefined) return {};
  return {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${tracing.collectorPort}`,
    OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
    OTEL_TRACES_SAMPLER_ARG: `${tracing.percent / 100}`,
  };
}
