// A small system in which everything that dashboards and alerts are about happens: calls that go well, fail, are
// retried, ejected, refused and shed; tasks that fail; a sidecar that is not ready, and one that is not there.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { Test } from 'tap';
import { freePort } from '../../scripts/harness/free-port.ts';
import { type Sidecar, startSidecar } from '../../scripts/harness/sidecar.ts';
import { startCounting } from './mcp-server.ts';
import { callTool } from './mcp-tasks.ts';
import { startOtlpReceiver } from './otlp-receiver.ts';

const definitions = loadSync('agent_service.proto', {
  includeDirs: [join(import.meta.dirname, '../../proto')],
  keepCase: true,
  defaults: true,
});
const agentService = definitions['agent.AgentService'] as grpc.ServiceDefinition;
const { ProcessTask, StreamProcess } = agentService as Record<string, grpc.MethodDefinition<object, object>>;

export interface ObservedSystem {
  /** Service name → the port of its metrics; `gone` has nobody behind it. */
  readonly targets: Readonly<Record<string, number>>;
  readonly research: Sidecar;
  readonly gateway: Sidecar;
  /** One of everything, some of it many times. Never throws: failures are what it is for. */
  round(): Promise<void>;
  /** Of the calls that were traced. */
  readonly traceIds: Set<string>;
}

type Teardown = Pick<Test, 'teardown'>;

export async function startObservedSystem(t: Teardown): Promise<ObservedSystem> {
  let modelPort = 0;
  const good = await startAgent(t, true, (taskId) => ask(modelPort, { 'x-task-id': taskId }));
  const bad = await startAgent(t, false);
  const collector = await startOtlpReceiver(t);
  const provider = await startProvider(t);
  const tools = await startCounting(t, {
    before: (request, response) => {
      // The connection is lost after the call was sent.
      const isCut = request.headers['mcp-name'] === 'put';
      if (isCut) response.destroy();
      return isCut;
    },
  });
  const mcpListen = `127.0.0.1:${await freePort()}`;
  const absentServer = `http://127.0.0.1:${await freePort()}/mcp`;
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-observed-'));
  const bus = { url: `file:${join(folder, 'tasks.db')}` };
  const tracing = (endpoint: string) => ({
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_BSP_SCHEDULE_DELAY: '200',
    OTEL_EXPORTER_OTLP_TIMEOUT: '500',
  });
  const research = await startSidecar(
    t,
    {
      name: 'research-agent',
      inbound: { app: `127.0.0.1:${good}`, max_concurrent_calls: 4 },
      bus: { ...bus, consume: { agent_types: ['research'] } },
      journal: { store: 'bus' },
      llm: {
        upstreams: [{ name: 'offline', url: `http://127.0.0.1:${provider}/v1`, model: 'small' }],
        retry: { max_attempts: 2, max_retry_after: '1s' },
        circuit_breaker: { min_calls: 5, recovery_timeout: '60s' },
      },
      mcp: {
        listen: mcpListen,
        servers: {
          tools: { url: tools.url, tools: ['write', 'put', 'fail'] },
          absent: { url: absentServer },
        },
        retry: { backoff: { base: '1ms', max: '5ms' } },
        circuit_breaker: { failure_percent: 0 },
      },
    },
    // Nobody listens there: its spans are lost, and counted.
    { env: tracing(`http://127.0.0.1:${await freePort()}`) },
  );
  modelPort = research.llmPort;
  const aliases = (port: number, count: number, net: number) =>
    Array.from({ length: count }, (_, i) => `127.0.${net}.${i + 1}:${port}`);
  const calm = {
    circuit_breaker: { consecutive_failures: 0, failure_percent: 0 },
    outlier_detection: { max_ejection_percent: 0 },
  };
  const retry = { idempotent_methods: [ProcessTask!.path], backoff: { base: '1ms', max: '5ms' } };
  const gateway = await startSidecar(
    t,
    {
      name: 'gateway',
      inbound: { app: `127.0.0.1:${await freePort()}` },
      bus,
      llm: {
        upstreams: [{ name: 'throttled', url: `http://127.0.0.1:${provider}/throttled/v1`, model: 'small' }],
        retry: { max_attempts: 1 },
      },
      outbound: {
        clusters: {
          research: { endpoints: [`127.0.0.1:${research.inboundPort}`], ...calm },
          waiting: { bus: 'research' },
          flaky: {
            endpoints: [...aliases(good, 7, 2), ...aliases(bad, 7, 3)],
            balancer: 'round_robin',
            circuit_breaker: calm.circuit_breaker,
            outlier_detection: {
              consecutive_failures: 3,
              base_ejection_time: '60s',
              max_ejection_percent: 50,
            },
            retry: { ...retry, budget: { percent: 100, min_concurrent: 50 } },
          },
          slow: {
            endpoints: [`127.0.0.1:${good}`, `127.0.5.1:${good}`],
            ...calm,
            retry: { ...retry, budget: { percent: 100, min_concurrent: 50 } },
            hedge: { delay: '20ms' },
          },
          // Nobody is there; many addresses, because each is tried ever more rarely.
          absent: { endpoints: aliases(await freePort(), 20, 6), balancer: 'round_robin', ...calm },
          broken: {
            endpoints: [`127.0.0.1:${bad}`],
            circuit_breaker: { consecutive_failures: 5, recovery_timeout: '60s' },
            retry: { max_attempts: 1 },
          },
          starved: {
            endpoints: aliases(bad, 2, 4),
            ...calm,
            retry: { ...retry, budget: { percent: 0, min_concurrent: 0 } },
          },
        },
      },
    },
    { until: 'live', env: tracing(collector.url) },
  );
  // Teardowns run in the order of their registration: the sidecars have ended.
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const traceIds = new Set<string>();
  const call = caller(t, gateway.outboundPort, traceIds);
  // The first run of the task fails, so that the second one gets the answer of its model from the journal.
  const askTwice = async (): Promise<void> => {
    const task = newTraceId();
    for (let run = 0; run < 2; run++) await call('research', 'ask', task);
  };
  return {
    targets: {
      research: research.metricsPort,
      gateway: gateway.metricsPort,
      gone: await freePort(),
    },
    research,
    gateway,
    traceIds,
    round: async () => {
      const calls: Promise<unknown>[] = [];
      // Together more errors than the fast burn rate allows.
      for (let i = 0; i < 8; i++) await call('research', 'fail');
      for (const input of ['SUCCESS', 'SUCCESS', 'PARTIAL', 'FAILED', 'FAILED'])
        await call('research', input);
      calls.push(call('research', 'stream'), call('waiting', 'SUCCESS'), askTwice());
      calls.push(call('nowhere', 'SUCCESS'));
      for (let i = 0; i < 3; i++) calls.push(ask(research.llmPort), ask(gateway.llmPort));
      for (const tool of ['write', 'put', 'fail', 'slow'])
        calls.push(callTool(new URL(`http://${mcpListen}/mcp/tools`), tool));
      calls.push(callTool(new URL(`http://${mcpListen}/mcp/absent`), 'write'));
      await Promise.all(calls);
      // More at a time than the research agent's sidecar lets in.
      calls.push(...Array.from({ length: 16 }, () => call('research', 'slow')));
      calls.push(call('slow', 'slow'), call('absent', 'SUCCESS'));
      for (let i = 0; i < 14; i++) calls.push(call('flaky', 'SUCCESS'));
      for (let i = 0; i < 4; i++) calls.push(call('broken', 'SUCCESS'), call('starved', 'SUCCESS'));
      await Promise.all(calls);
    },
  };
}

/** A provider of models that answers some requests, then fails all; under another path it throttles. */
async function startProvider(t: Teardown): Promise<number> {
  let requests = 0;
  const server = createServer((request, response) => {
    request.resume();
    const throttled = request.url?.startsWith('/throttled') === true;
    const status = throttled ? 429 : ++requests > 8 ? 500 : 200;
    response.writeHead(status, {
      'content-type': 'application/json',
      ...(throttled ? { 'retry-after': '1' } : {}),
    });
    const usage = { prompt_tokens: 5, completion_tokens: 7, total_tokens: 12 };
    const message = { role: 'assistant', content: 'yes' };
    const answer = {
      id: 'a',
      model: 'small',
      choices: [{ index: 0, message, finish_reason: 'stop' }],
      usage,
    };
    response.end(JSON.stringify(status === 200 ? answer : { error: { message: 'told to fail' } }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** One request to a model, through a sidecar's egress. */
async function ask(llmPort: number, headers: Readonly<Record<string, string>> = {}): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${llmPort}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ model: 'small', messages: [{ role: 'user', content: 'Why?' }] }),
    signal: AbortSignal.timeout(20_000),
  }).catch(() => undefined);
  await response?.text().catch(() => {});
}

/** An agent that ends tasks as their input asks, some after a question to its model; one that is not `good` fails them all. */
async function startAgent(
  t: Teardown,
  good: boolean,
  askModel: (taskId: string) => Promise<void> = async () => {},
): Promise<number> {
  const failedTasks = new Set<string>();
  const server = new grpc.Server();
  server.addService(agentService, {
    ProcessTask: (
      { request }: { request: { input: string; task_id: string } },
      callback: grpc.sendUnaryData<object>,
    ) => {
      const { input, task_id } = request;
      if (!good) callback({ code: grpc.status.UNAVAILABLE, details: 'told to fail' });
      else if (input === 'fail') callback({ code: grpc.status.INTERNAL, details: 'told to fail' });
      else if (input === 'slow') setTimeout(() => callback(null, { status: 'SUCCESS', tokens_used: 5 }), 200);
      else if (input === 'ask')
        void askModel(task_id).then(() =>
          failedTasks.delete(task_id)
            ? callback(null, { status: 'SUCCESS', tokens_used: 12 })
            : failedTasks.add(task_id) &&
              callback({ code: grpc.status.UNAVAILABLE, details: 'told to fail once' }),
        );
      else callback(null, { status: input, tokens_used: 10 });
    },
    StreamProcess: (stream: grpc.ServerWritableStream<object, object>) => {
      stream.write({ chunk: 'part', is_final: true });
      stream.end();
    },
    HealthCheck: (_: unknown, callback: grpc.sendUnaryData<object>) => callback(null, { healthy: true }),
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('0.0.0.0:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  t.teardown(() => server.forceShutdown());
  return port;
}

function newTraceId(): string {
  return crypto.randomUUID().replaceAll('-', '');
}

/** Makes calls through an outbound listener, each with a trace of its own, and waits for their end. */
function caller(t: Teardown, outboundPort: number, traceIds: Set<string>) {
  const clients = new Map<string, grpc.Client>();
  t.teardown(() => {
    for (const client of clients.values()) client.close();
  });
  const clientOf = (authority: string): grpc.Client => {
    let client = clients.get(authority);
    if (client === undefined) {
      client = new grpc.Client(`127.0.0.1:${outboundPort}`, grpc.credentials.createInsecure(), {
        'grpc.default_authority': authority,
      });
      clients.set(authority, client);
    }
    return client;
  };
  return (cluster: string, input: string, traceId = newTraceId()): Promise<void> => {
    traceIds.add(traceId);
    const metadata = new grpc.Metadata();
    metadata.set('traceparent', `00-${traceId}-${traceId.slice(16)}-01`);
    const options = { deadline: Date.now() + 20_000 };
    const client = clientOf(cluster);
    return new Promise((resolve) => {
      if (input === 'stream') {
        const { path, requestSerialize, responseDeserialize } = StreamProcess!;
        client
          .makeServerStreamRequest(path, requestSerialize, responseDeserialize, { input }, metadata, options)
          .on('error', () => {})
          .on('status', () => resolve())
          .resume();
        return;
      }
      const { path, requestSerialize, responseDeserialize } = ProcessTask!;
      client
        .makeUnaryRequest(
          path,
          requestSerialize,
          responseDeserialize,
          { input, task_id: traceId },
          metadata,
          options,
          () => {},
        )
        .on('status', () => resolve());
    });
  };
}
