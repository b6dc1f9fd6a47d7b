// The layouts of the local system: each answers a task, in one trace from the gateway to the last model.
import t from 'tap';
import { runStart } from '../agents/local/test-support.ts';
import { startOtlpReceiver } from './support/otlp-receiver.ts';

// The test starts processes, which takes long while other tests run on the machine.
t.setTimeout(290_000);
t.jobs = 2;

const scenes = [
  {
    layout: 'capabilities',
    input: 'Compare retries and hedging, and what is 6 * 7?',
    output: [/turns on the bus and the journal/, /played the planner/, /received [6-9] requests/],
    services: ['gateway', 'orchestrator-agent', 'research-agent', 'writing-agent'],
    // The planner thrice, two researchers and a writer.
    models: 6,
  },
  {
    layout: 'domains',
    input: 'I want my money back',
    output: [/refunds instructions/],
    services: ['gateway', 'support-agent'],
    models: 1,
  },
];

for (const { layout, input, output, services, models } of scenes) {
  t.test(`a task of the layout ${layout} is one trace`, async (t) => {
    const receiver = await startOtlpReceiver(t);
    const run = runStart(t, ['--layout', layout, '--task', input], {
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
      PORT: '',
    });
    const [code] = await run.ended;
    t.equal(code, 0, run.output());
    for (const part of output) t.match(run.output(), part);
    t.match(run.output(), /SUCCESS after/);
    const root = receiver.spans.find(({ name }) => name === 'POST /api/v1/tasks');
    const trace = receiver.spans.filter(({ traceId }) => traceId === root?.traceId);
    const asked = receiver.spans.filter(({ name }) => name.startsWith('chat '));
    t.ok(asked.length >= models, `${asked.length} requests to models`);
    t.ok(
      asked.every(({ traceId }) => traceId === root?.traceId),
      'all of them belong to the trace',
    );
    const named = new Set(trace.map(({ resource }) => resource['service.name']));
    // The tool runner is left out on a machine that can't build its sandbox.
    const hasTools = layout === 'capabilities' && !/tool runner is left out/.test(run.output());
    for (const service of hasTools ? [...services, 'tools-agent', 'llm-1'] : services)
      t.ok(named.has(service), `${service} has a span in it`);
    const ids = new Set(trace.map(({ spanId }) => spanId));
    const lost = trace.filter(
      ({ spanId, parentSpanId }) => spanId !== root?.spanId && !ids.has(parentSpanId),
    );
    t.same(
      lost.map(({ name }) => name),
      [],
      'each span but the first has its parent in it',
    );
  });
}
