// `npm run check:traces`: checks traces with a real collector; `npm test` uses a small one of ours.
//
// Builds Jaeger 1.62 (once, in some minutes, into .cache/traces), sends it a task of the local system over each of
// OTLP's two transports, reads the stored traces from its API, and checks that each trace is one tree.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from './harness/free-port.ts';
import { runProcess, startProcess } from './harness/process.ts';
import { waitUntil } from './harness/wait-until.ts';

const root = join(import.meta.dirname, '..');
const version = '1.62.0';
const folder = join(root, '.cache', 'traces');
const jaeger = join(folder, `jaeger-${version}`);

/** Jaeger's own module has this `replace`, but Go reads the directive in the main module only. */
const goModule = `module outrigger/traces

go 1.23

require github.com/jaegertracing/jaeger v${version}

replace github.com/Shopify/sarama => github.com/Shopify/sarama v1.33.0
`;

/** The tree of a task, one span a line: service, kind, name. */
const wanted = `gateway server POST /api/v1/tasks
  gateway client agent.AgentService/ProcessTask
    gateway client Attempt.agent.AgentService/ProcessTask
      writing-1 server agent.AgentService/ProcessTask
        writing-agent internal invoke_agent writing-agent
          writing-1 client chat gpt-4o-mini`;

interface JaegerSpan {
  readonly spanID: string;
  readonly operationName: string;
  readonly processID: string;
  readonly references: readonly { readonly refType: string; readonly spanID: string }[];
  readonly tags: readonly { readonly key: string; readonly value: unknown }[];
}

interface JaegerTrace {
  readonly traceID: string;
  readonly spans: readonly JaegerSpan[];
  readonly processes: Readonly<Record<string, { readonly serviceName: string }>>;
  readonly warnings: readonly string[] | null;
}

const endings: (() => unknown)[] = [];
const t = { teardown: (ending: () => unknown) => void endings.push(ending) };
try {
  if (!existsSync(jaeger)) await build();
  process.exitCode = (await check()) ? 0 : 1;
} finally {
  for (const ending of endings.reverse()) await ending();
}

async function build(): Promise<void> {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'go.mod'), goModule);
  console.log(`building Jaeger ${version} …`);
  const args = ['build', '-mod=mod', '-trimpath', '-ldflags=-s -w', '-o', jaeger];
  const { code, output } = await runProcess(
    t,
    'go',
    [...args, 'github.com/jaegertracing/jaeger/cmd/all-in-one'],
    {
      cwd: folder,
      env: { CGO_ENABLED: '0', GOFLAGS: '', GOTOOLCHAIN: 'local' },
      limitMs: 60 * 60_000,
    },
  );
  if (code !== 0) throw new Error(`go build exited with ${code}: ${output.slice(-2_000)}`);
}

async function check(): Promise<boolean> {
  const [http, grpc, query] = [await freePort(), await freePort(), await freePort()];
  const others = ['admin.http', 'collector.grpc-server', 'collector.http-server', 'query.grpc-server'];
  const args = [
    `--collector.otlp.http.host-port=127.0.0.1:${http}`,
    `--collector.otlp.grpc.host-port=127.0.0.1:${grpc}`,
    `--query.http-server.host-port=127.0.0.1:${query}`,
  ];
  for (const name of [...others, 'http-server'])
    args.push(`--${name}.host-port=127.0.0.1:${await freePort()}`);
  for (const name of ['jaeger-compact', 'jaeger-binary', 'zipkin-compact'])
    args.push(`--processor.${name}.server-host-port=127.0.0.1:${await freePort()}`);
  const collector = startProcess(t, jaeger, args, { env: { SPAN_STORAGE_TYPE: 'memory' } });
  const api = `http://127.0.0.1:${query}/api`;
  await waitUntil('Jaeger answers', async () => (await fetch(`${api}/services`)).ok, {
    limitMs: 30_000,
  }).catch((error) => {
    throw new Error(`${error.message}; its log: ${collector.logs().slice(-2_000)}`);
  });
  let good = true;
  for (const [protocol, port] of [
    ['http/protobuf', http],
    ['grpc', grpc],
  ] as const) {
    await sendTask({
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
      OTEL_RESOURCE_ATTRIBUTES: `outrigger.check=${protocol.replace('/', '-')}`,
    });
    const trace = await waitUntil(
      'Jaeger has the trace',
      async () => {
        const tags = encodeURIComponent(JSON.stringify({ 'outrigger.check': protocol.replace('/', '-') }));
        const found = await fetch(
          `${api}/traces?service=gateway&operation=${encodeURIComponent('POST /api/v1/tasks')}&tags=${tags}`,
        );
        const { data } = (await found.json()) as { data: JaegerTrace[] };
        return data.length === 1 && data[0]!.spans.length >= 6 ? data[0] : undefined;
      },
      { limitMs: 30_000, everyMs: 500 },
    );
    const drawn = draw(trace);
    const same = drawn === wanted && (trace.warnings ?? []).length === 0;
    good &&= same;
    console.log(
      `\n${protocol}: ${same ? 'one tree' : `not the expected tree, which is\n${wanted}\nbut`}\n${drawn}`,
    );
  }
  return good;
}

/** Runs one task in the local system; all processes send their spans before they end. */
async function sendTask(env: Record<string, string>): Promise<void> {
  const start = join(root, 'agents', 'local', 'start.ts');
  const args = [start, '--task', 'Why do circuit breakers matter?', '--agent', 'writing'];
  const { code, output } = await runProcess(t, process.execPath, args, {
    env: { OPENAI_API_KEY: '', ...env },
    limitMs: 120_000,
  });
  if (code !== 0) throw new Error(`the local system exited with ${code}: ${output.slice(-2_000)}`);
}

function draw({ spans, processes }: JaegerTrace): string {
  const parentOf = (span: JaegerSpan): string | undefined =>
    span.references.find(({ refType }) => refType === 'CHILD_OF')?.spanID;
  const lines: string[] = [];
  const add = (span: JaegerSpan, depth: number): void => {
    const kind = span.tags.find(({ key }) => key === 'span.kind')?.value ?? 'internal';
    const { serviceName } = processes[span.processID]!;
    lines.push(`${'  '.repeat(depth)}${serviceName} ${kind} ${span.operationName}`);
    for (const child of spans) if (parentOf(child) === span.spanID) add(child, depth + 1);
  };
  const ids = new Set(spans.map(({ spanID }) => spanID));
  for (const span of spans) if (!ids.has(parentOf(span) ?? '')) add(span, 0);
  return lines.join('\n');
}
