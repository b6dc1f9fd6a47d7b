// The layouts of the local system: each answers a task in one trace, from the gateway to the last model and tool, and a replica that is
// killed under load loses no task.
import t, { type Test } from 'tap';
import { runStart } from '../agents/local/test-support.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { type OtlpReceiver, startOtlpReceiver } from './support/otlp-receiver.ts';

// The test starts processes, which takes long while other tests run on the machine.
t.setTimeout(290_000);
t.jobs = 2;

/** All requests to models belong to the one trace of the task, which has no gap. */
function checkTrace(t: Test, { spans }: OtlpReceiver, services: readonly string[]): void {
  const root = spans.find(({ name }) => name === 'POST /api/v1/tasks');
  const trace = spans.filter(({ traceId }) => traceId === root?.traceId);
  t.ok(
    spans.every(({ name, traceId }) => !name.startsWith('chat ') || traceId === root?.traceId),
    'all requests to models belong to the trace',
  );
  const named = new Set(trace.map(({ resource }) => resource['service.name']));
  for (const service of services) t.ok(named.has(service), `${service} has a span in it`);
  const ids = new Set(trace.map(({ spanId }) => spanId));
  const lost = trace.filter(({ spanId, parentSpanId }) => spanId !== root?.spanId && !ids.has(parentSpanId));
  t.same(
    lost.map(({ name }) => name),
    [],
    'each span but the first has its parent in it',
  );
}

t.test('domains: a task is one trace', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const run = runStart(t, ['--layout', 'domains', '--task', 'I want my money back'], {
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    PORT: '',
  });
  const [code] = await run.ended;
  t.equal(code, 0, run.output());
  t.match(run.output(), /refunds instructions.*SUCCESS after/s);
  checkTrace(t, receiver, ['gateway', 'support-agent']);
});

t.test('capabilities: a task is one trace, and killed replicas lose no task', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const run = runStart(t, ['--layout', 'capabilities'], {
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    PORT: '',
  });
  await waitUntil(
    'the system runs',
    () => /Ctrl-C stops it/.test(run.output()) || run.child.exitCode !== null,
  );
  const url = /page +(http:\S+)\//.exec(run.output())?.[1];
  if (url === undefined) return t.fail(run.output());
  t.match(run.output(), /turns on the bus and the journal/);
  // The tool runner is left out on a machine that can't build its sandbox.
  const hasTools = !/tool runner is left out/.test(run.output());
  const post = async (path: string, body: object, headers = {}): Promise<Response> =>
    fetch(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    });

  const input = 'Compare retries and hedging, and what is 6 * 7?';
  const answer = (await (await post('/api/v1/tasks', { input })).json()) as {
    output: string;
    status: string;
  };
  t.match(answer, { status: 'SUCCESS', output: /played the planner/ });
  const services = ['gateway', 'orchestrator-agent', 'research-agent', 'writing-agent'];
  await receiver.until(
    'the spans of the task have come',
    (spans) =>
      spans.some(({ name }) => name === 'POST /api/v1/tasks') &&
      spans.filter(
        ({ name, resource }) => name.startsWith('chat ') && !/^llm/.test(String(resource['service.name'])),
      ).length >= 6,
  );
  await waitUntil('no span is missing', () => {
    const ids = new Set(receiver.spans.map(({ spanId }) => spanId));
    return receiver.spans.every(({ parentSpanId }) => parentSpanId === '' || ids.has(parentSpanId));
  });
  checkTrace(t, receiver, hasTools ? [...services, 'tools-agent'] : services);

  const submitted: string[] = [];
  const submit = async (): Promise<void> => {
    const accepted = await post('/api/v1/tasks', { input }, { prefer: 'respond-async' });
    t.equal(accepted.status, 202);
    submitted.push(((await accepted.json()) as { task_id: string }).task_id);
  };
  const victims = ['orchestrator-1', 'research-1', 'writing-1', 'llm-1', ...(hasTools ? ['tools-1'] : [])];
  for (const victim of victims) {
    await Promise.all([submit(), submit()]);
    t.equal((await post(`/local/replicas/${victim}/kill`, {})).status, 200, `${victim} is killed`);
    await submit();
    t.equal((await post(`/local/replicas/${victim}/restore`, {})).status, 200, `${victim} is back`);
  }
  for (const id of submitted) {
    const task = await waitUntil(`task ${id} has ended`, async () => {
      const found = (await (await fetch(`${url}/api/v1/tasks/${id}`)).json()) as Record<string, unknown>;
      return !['queued', 'running'].includes(String(found['state'])) && found;
    });
    // A tool that was killed is a branch that failed, which the answer names.
    t.match(
      task,
      { state: 'done', status: /^(SUCCESS|PARTIAL)$/, output: /played the planner/ },
      JSON.stringify(task),
    );
    const { output } = task as { output: string };
    t.notMatch(output, /ask_\w+: /, 'no branch of an agent has failed');
  }
  t.equal(submitted.length, 3 * victims.length);
});
