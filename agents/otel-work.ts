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
import type { Work, WorkTracing } from './tracing.ts';

/** Spans by OpenTelemetry's SDK. Loaded only when they are wanted: see tracing.ts. */
export function createWorkTracing(serviceName: string | undefined): WorkTracing {
  const sdk = new NodeSDK({
    ...(serviceName === undefined ? {} : { serviceName }),
    // The process's own detector would tell its command line, which may hold anything.
    resourceDetectors: [hostDetector, serviceInstanceIdDetector, envDetector],
    instrumentations: [],
    metricReaders: [],
    logRecordProcessors: [],
  });
  sdk.start();
  const tracer = trace.getTracer('outrigger-agents');
  return {
    begin(name, kind, incoming, attributes) {
      const parent = propagation.extract(ROOT_CONTEXT, incoming);
      const spanKind = kind === 'server' ? SpanKind.SERVER : SpanKind.INTERNAL;
      const span = tracer.startSpan(name, { kind: spanKind, attributes }, parent);
      return workOf(span, trace.setSpan(parent, span));
    },
    stop: () => sdk.shutdown(),
  };
}

function workOf(span: Span, context: Context): Work {
  const headers: Record<string, string> = {};
  propagation.inject(context, headers);
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
