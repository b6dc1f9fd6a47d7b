// What the tests of traces share: sidecars that trace to a receiver, and ways to read what it got.
import * as grpc from '@grpc/grpc-js';
import type { Test } from 'tap';
import { type Sidecar, startSidecar } from '../../scripts/harness/sidecar.ts';
import { stringField } from '../../sidecar/task/protobuf.ts';
import type { ReceivedSpan } from './otlp.ts';
import { drawTrees, type OtlpReceiver } from './otlp-receiver.ts';
import { taskRequest } from './upstream.ts';

export const SERVER = 2;
export const CLIENT = 3;
export const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
export const callersSpan = '00f067aa0ba902b7';
export const sampled = `00-${traceId}-${callersSpan}-01`;
export const unsampled = `00-${traceId}-${callersSpan}-00`;

export function tracingTo(receiver: Pick<OtlpReceiver, 'url'>, more: Record<string, string> = {}) {
  return { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, OTEL_BSP_SCHEDULE_DELAY: '50', ...more };
}

export function outbound(endpoints: readonly string[], settings: Record<string, unknown> = {}) {
  return {
    routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }],
    clusters: { upstream: { endpoints, balancer: 'round_robin', ...settings } },
  };
}

/** A sidecar whose outbound side leads to these. */
export function startOutbound(
  t: Test,
  receiver: Pick<OtlpReceiver, 'url'>,
  replicas: readonly { address: string }[],
  settings: Record<string, unknown> = {},
  env: Record<string, string> = {},
): Promise<Sidecar> {
  const config = {
    name: 'caller',
    outbound: outbound(
      replicas.map(({ address }) => address),
      settings,
    ),
  };
  return startSidecar(t, config, { until: 'live', env: tracingTo(receiver, env) });
}

export function metadata(fields: Record<string, string | Buffer>): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(fields)) metadata.set(name, value);
  return metadata;
}

export const task = (id: string, correlation = '') =>
  Buffer.concat([taskRequest({ id }), correlation === '' ? Buffer.alloc(0) : stringField(2, correlation)]);

export const isAttempt = ({ name }: ReceivedSpan): boolean => name.startsWith('Attempt.');
export const callsOf = (spans: readonly ReceivedSpan[], kind: number): ReceivedSpan[] =>
  spans.filter((span) => span.kind === kind && !isAttempt(span));

export function childrenOf(spans: readonly ReceivedSpan[], parent: ReceivedSpan): ReceivedSpan[] {
  return spans
    .filter(({ parentSpanId }) => parentSpanId === parent.spanId)
    .sort((a, b) => Number(a.startNano - b.startNano));
}

/** What a call made of spans says as a line a span, moved to the right below its parent. */
export const tree = (spans: readonly ReceivedSpan[]) => drawTrees(spans).split('\n');

export async function metricsOf({ metricsPort }: Sidecar): Promise<string> {
  return (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
}

export async function spanCounts(sidecar: Sidecar): Promise<Record<string, number>> {
  const lines = (await metricsOf(sidecar)).matchAll(/^outrigger_spans_total\{outcome="(\w+)"\} (\d+)/gm);
  return Object.fromEntries([...lines].map(([, outcome, count]) => [outcome, Number(count)]));
}
