// The settings of tracing, from environment variables.
import t from 'tap';
import { DEFAULT_TRACING, tracingSettings } from './settings.ts';

const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' };

function read(env: Record<string, string>) {
  const warnings: string[] = [];
  return { settings: tracingSettings(env, (message) => warnings.push(message)), warnings };
}

t.test('tracing is off without an endpoint, and when it is turned off', async (t) => {
  t.equal(read({}).settings, undefined);
  t.equal(read({ OTEL_EXPORTER_OTLP_ENDPOINT: ' ' }).settings, undefined);
  t.equal(read({ OTEL_TRACES_SAMPLER: 'always_on' }).settings, undefined);
  t.equal(read({ ...endpoint, OTEL_SDK_DISABLED: 'TRUE' }).settings, undefined);
  t.equal(read({ ...endpoint, OTEL_TRACES_EXPORTER: 'none' }).settings, undefined);
  const metricsOnly = { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: 'http://127.0.0.1:4318/v1/metrics' };
  t.equal(read(metricsOnly).settings, undefined);
});

t.test('an endpoint turns it on, with the defaults of the specification', async (t) => {
  t.strictSame(read(endpoint).settings, DEFAULT_TRACING);
  t.strictSame(read({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://c:4318/v1/traces' }), {
    settings: DEFAULT_TRACING,
    warnings: [],
  });
});

t.test('the settings follow each variable', async (t) => {
  const { settings, warnings } = read({
    ...endpoint,
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'grpc',
    OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
    OTEL_TRACES_SAMPLER_ARG: '0.01',
    OTEL_BSP_MAX_QUEUE_SIZE: '100',
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '200',
    OTEL_BSP_SCHEDULE_DELAY: '1000',
    OTEL_BSP_EXPORT_TIMEOUT: '2000',
    OTEL_PROPAGATORS: 'none',
  });
  t.strictSame(warnings, []);
  t.strictSame(settings, {
    protocol: 'grpc',
    sampler: { parentBased: true, ratio: 0.01 },
    queue: { maxQueueSize: 100, maxBatchSize: 100, scheduleDelayMs: 1000, exportTimeoutMs: 2000 },
    propagators: [],
  });
  t.equal(
    read({ OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317', OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }).settings
      ?.protocol,
    'grpc',
    'gRPC needs no scheme',
  );
});

t.test('a warning names an unusable value and the value used instead', async (t) => {
  const wrong = {
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/xml',
    OTEL_TRACES_SAMPLER: 'jaeger_remote',
    OTEL_BSP_MAX_QUEUE_SIZE: '-1',
    OTEL_BSP_SCHEDULE_DELAY: 'soon',
    OTEL_PROPAGATORS: 'tracecontext,xray',
  };
  const { settings, warnings } = read({ ...endpoint, ...wrong });
  t.strictSame(settings, DEFAULT_TRACING);
  t.equal(warnings.length, Object.keys(wrong).length);
  const secret = read({ OTEL_EXPORTER_OTLP_ENDPOINT: 'user:password@collector' });
  t.equal(secret.settings, undefined);
  t.notMatch(secret.warnings.join(), /password/);
  t.equal(read({ ...endpoint, OTEL_TRACES_EXPORTER: 'zipkin' }).warnings.length, 1);
});

t.test('lists may have blanks, and name the formats of trace context', async (t) => {
  const { settings, warnings } = read({ ...endpoint, OTEL_TRACES_EXPORTER: 'console, otlp' });
  t.strictSame(settings, DEFAULT_TRACING, 'one of several');
  t.strictSame(warnings, ['OTEL_TRACES_EXPORTER: console is not known here; otlp alone is used']);
  const propagators = (names: string) => {
    const { settings, warnings } = read({ ...endpoint, OTEL_PROPAGATORS: names });
    return { used: settings!.propagators, warning: warnings.join() };
  };
  t.strictSame(propagators('tracecontext, b3multi ,baggage,b3'), {
    used: ['tracecontext', 'b3multi', 'b3'],
    warning: '',
  });
  t.strictSame(propagators('jaeger'), { used: ['jaeger'], warning: '' });
  t.strictSame(propagators('baggage'), { used: [], warning: '' });
  t.match(propagators('b3,ottrace'), { used: ['b3'], warning: /ottrace is not known here, and b3 is used/ });
  t.match(propagators('xray'), { used: ['tracecontext'], warning: /xray .* tracecontext is used/ });
});
