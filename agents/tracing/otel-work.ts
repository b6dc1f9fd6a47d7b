/** The tracing of agent processes that record spans. */
import {
  type Context,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';
import { envDetector, hostDetector, serviceInstanceIdDetector } from '@opentelemetry/resources';
import { NodeSDK } from '@opentelemetry/sdk-node';
import { extractJaeger, injectJaeger } from './jaeger.ts';
import type { Work, WorkTracing } from './work.ts';

/**
 * Spans by OpenTelemetry's SDK. Loaded on demand: see tracing.ts.
 *
 * @param propagators `OTEL_PROPAGATORS`, in order; Jaeger's is ours, the SDK has the others
 */
export function createWorkTracing(
  serviceName: string | undefined,
  propagators: readonly string[],
): WorkTracing {
  const sdk = new NodeSDK({
    ...(serviceName === undefined ? {} : { serviceName }),
    // The process detector would report the command line, which may contain secrets.
    resourceDetectors: [hostDetector, serviceInstanceIdDetector, envDetector],
    instrumentations: [],
    metricReaders: [],
    logRecordProcessors: [],
  });
  sdk.start();
  const tracer = trace.getTracer('outrigger-agents');
  const withJaeger = propagators.includes('jaeger') && !propagators.includes('none');
  /** If a request has several formats, the last one in the list wins. */
  const extract = (incoming: Readonly<Record<string, string>>): Context => {
    if (!withJaeger) return propagation.extract(ROOT_CONTEXT, incoming);
    return propagators.at(-1) === 'jaeger'
      ? extractJaeger(propagation.extract(ROOT_CONTEXT, incoming), incoming)
      : propagation.extract(extractJaeger(ROOT_CONTEXT, incoming), incoming);
  };
  return {
    begin(name, kind, incoming, attributes) {
      const parent = extract(incoming);
      const spanKind = kind === 'server' ? SpanKind.SERVER : SpanKind.INTERNAL;
      const span = tracer.startSpan(name, { kind: spanKind, attributes }, parent);
      return workOf(span, trace.setSpan(parent, span), withJaeger);
    },
    stop: () => sdk.shutdown(),
  };
}

function workOf(span: Span, context: Context, withJaeger: boolean): Work {
  const headers: Record<string, string> = {};
  propagation.inject(context, headers);
  if (withJaeger) injectJaeger(context, headers);
  return {
    headers,
    end(attributes = {}, errorType) {
      span.setAttributes(attributes);
      if (errorType !== undefined) {
        span.setAttribute('error.type', errorType);
        span.setStatus({ code: SpanStatusCode.ERROR });
      }
      span.end();
    },
  };
}
