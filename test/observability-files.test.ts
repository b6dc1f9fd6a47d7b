// k8s/observability without running it: generated files are current, names lead somewhere, images are pinned, pods are
// restricted, and Compose says what the manifests say. That the queries work is observability.test.ts's.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import { parse, parseAllDocuments } from 'yaml';
import { dashboardFiles } from '../scripts/dashboards/files.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { createMetrics } from '../sidecar/admin/metrics/metrics.ts';
import { TaskCounts } from '../sidecar/bus/log/task-counts.ts';
import { ScalerMetrics } from '../sidecar/kubernetes/scaler/metrics.ts';
import { WebhookMetrics } from '../sidecar/kubernetes/webhook/metrics.ts';
import { ListenerStats } from '../sidecar/telemetry/call-stats.ts';
import { JournalStats } from '../sidecar/telemetry/journal-stats.ts';
import { LlmStats } from '../sidecar/telemetry/llm-stats.ts';
import { McpStats } from '../sidecar/telemetry/mcp-stats.ts';
import { TaskStats } from '../sidecar/telemetry/task-stats.ts';
import {
  autoscalingQueries,
  dashboardQueries,
  linkQueries,
  metricNames,
  ruleQueries,
} from './support/promql.ts';

const root = join(import.meta.dirname, '..');
const folder = join(root, 'k8s/observability');
const textOf = (path: string): string => readFileSync(join(root, path), 'utf8');

/** As much of a manifest as is looked at. */
interface Manifest {
  kind: string;
  metadata: { name: string; labels?: Record<string, string> };
  spec: {
    ports?: { name: string; port: number; targetPort: string }[];
    selector?: Record<string, string>;
    template?: { metadata: { labels: Record<string, string> }; spec: PodSpec };
  };
}

interface PodSpec {
  securityContext: Record<string, unknown>;
  containers: Container[];
  volumes: { name: string; configMap?: { name: string } }[];
}

interface Container {
  name: string;
  image: string;
  args?: string[];
  env?: { name: string; value: string }[];
  ports: { name: string; containerPort: number }[];
  resources: { requests: Record<string, string>; limits: Record<string, string> };
  securityContext: Record<string, unknown>;
  volumeMounts: { name: string; mountPath: string }[];
  readinessProbe: { httpGet: { port: string } };
  livenessProbe: { httpGet: { port: string } };
}

interface Composition {
  services: Record<
    string,
    {
      image: string;
      user: string;
      command?: string[];
      environment?: Record<string, string>;
      ports?: string[];
      volumes: string[];
      read_only: boolean;
      cap_drop: string[];
      mem_limit: string;
    }
  >;
}

const manifests = readdirSync(folder)
  .filter((name) => name.endsWith('.yaml') && name !== 'kustomization.yaml')
  .flatMap((name) => parseAllDocuments(textOf(`k8s/observability/${name}`)).map((d) => d.toJS() as Manifest));
const workloads = manifests.filter(({ spec }) => spec?.template !== undefined);
const services = manifests.filter(({ kind }) => kind === 'Service');
const compose = parse(textOf('k8s/observability/docker-compose.yml'), { merge: true }) as Composition;

/** Everything that can be on the page. */
function exposedMetrics(): readonly { name: string; type: string }[] {
  return createMetrics({
    version: '1',
    ready: () => true,
    listeners: [new ListenerStats('inbound')],
    clusters: () => [],
    circuits: () => [],
    tasks: new TaskStats(),
    agentTypes: () => [],
    mcp: { stats: new McpStats(), egress: undefined },
    certificates: () => [],
    findings: () => [],
    logLines: { dropped: 0 },
    taskStore: { joined: 0, replayed: 0, refused: 0 },
    bus: { counts: new TaskCounts(), view: undefined },
    journal: { isOn: false, connected: false, stats: new JournalStats() },
    llm: { stats: new LlmStats(), upstreams: () => [], waiting: () => 0, bodyBytes: () => 0 },
    tracing: { counts: { exported: 0, droppedQueueFull: 0, failed: 0, rejected: 0 }, waiting: () => 0 },
  });
}

t.test("the committed dashboards equal the script's output", async (t) => {
  for (const [path, text] of dashboardFiles())
    t.equal(readFileSync(path, 'utf8'), text, `${path}: run npm run dashboards`);
  t.same(
    readdirSync(join(folder, 'files/grafana/dashboards')).sort(),
    dashboardFiles()
      .map(([path]) => path.split('/').at(-1))
      .sort(),
  );
  for (const [path, text] of dashboardFiles()) {
    const { panels } = JSON.parse(text) as {
      panels: {
        id: number;
        title: string;
        description?: string;
        type: string;
        gridPos: Record<'x' | 'y' | 'w' | 'h', number>;
      }[];
    };
    t.equal(new Set(panels.map(({ id }) => id)).size, panels.length, `${path}: ids`);
    for (const { title, description, type, gridPos } of panels) {
      t.ok(gridPos.x + gridPos.w <= 24, `${path}: ${title} fits`);
      if (type !== 'row') t.ok((description ?? '').length > 10, `${path}: ${title} says what it means`);
    }
  }
});

t.test('dashboards, alerts and docs name only existing metrics, and the docs name all of them', async (t) => {
  const webhook = await new WebhookMetrics(() => 0).registry.getMetricsAsJSON();
  const scaler = await new ScalerMetrics(() => true).registry.getMetricsAsJSON();
  const others = [...webhook, ...scaler].map(({ name, type }) => ({ name, type: String(type) }));
  const exposed = [...exposedMetrics(), ...others];
  const names = new Set(exposed.map(({ name }) => name));
  const lines = new Set([...names, 'up']);
  for (const { name, type } of exposed) {
    // Its own name is that of a native histogram.
    if (type !== 'histogram') continue;
    for (const part of ['bucket', 'sum', 'count']) lines.add(`${name}_${part}`);
  }
  const queries = [...dashboardQueries(), ...linkQueries(), ...autoscalingQueries(), ...ruleQueries()];
  for (const { where, kind } of queries) if (kind === 'record') lines.add(where.slice('record '.length));
  let named = 0;
  for (const { where, promql } of queries) {
    for (const name of metricNames(promql)) {
      t.ok(lines.has(name), `${where}: ${name}`);
      named++;
    }
    t.not(metricNames(promql).length, 0, where);
  }
  t.ok(named > 50, `${named} names`);

  const docs = textOf('docs/observability.md');
  for (const name of names) t.match(docs, `\`${name}\``, `docs/observability.md has ${name}`);
  for (const path of ['docs/observability.md', 'README.md']) {
    for (const [, name = ''] of textOf(path).matchAll(/`((?:outrigger|rpc|process|nodejs)_[a-z_]+)`/g)) {
      if (name.startsWith('rpc_') && !name.includes('duration')) continue;
      t.ok(names.has(name), `${path}: ${name}`);
    }
  }
  for (const { where, kind } of queries)
    if (kind === 'alert')
      t.match(docs, `\`${where.slice('alert '.length)}\``, `docs/observability.md has ${where}`);
});

t.test('images have pinned versions with a reason, and pods are restricted and bounded', async (t) => {
  t.same(workloads.map(({ metadata }) => metadata.name).sort(), [
    'grafana',
    'otel-collector',
    'prometheus',
    'tempo',
  ]);
  const text = readdirSync(folder)
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => textOf(`k8s/observability/${name}`))
    .join('\n');
  const images = [...text.matchAll(/^ +# (.+)\n +image: (\S+)$/gm)];
  t.equal(images.length, workloads.length, 'each image has a reason on the line above');
  for (const [, reason, image] of images) {
    t.match(image, /^[\w./-]+:v?\d+\.\d+\.\d+$/, `${image} is a version`);
    t.ok(reason!.length > 40, `${image}: ${reason}`);
  }
  for (const { metadata, spec } of workloads) {
    const pod = spec.template!.spec;
    t.match(pod.securityContext, { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
    t.ok((pod.securityContext['runAsUser'] as number) > 0, `${metadata.name} has a user`);
    for (const container of pod.containers) {
      t.match(
        container.securityContext,
        { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
        metadata.name,
      );
      t.ok(container.resources.limits['memory'], `${metadata.name} has a memory limit`);
      t.ok(container.resources.requests['cpu'] && container.resources.requests['memory'], metadata.name);
      const ports = container.ports.map(({ name }) => name);
      for (const probe of [container.readinessProbe, container.livenessProbe])
        t.ok(ports.includes(probe.httpGet.port), `${metadata.name}: probe`);
      const volumes = pod.volumes.map(({ name }) => name);
      for (const { name } of container.volumeMounts)
        t.ok(volumes.includes(name) || name === 'data', `${metadata.name}: volume ${name}`);
    }
  }
});

t.test('components that connect use matching addresses', async (t) => {
  const portOf = (service: string, name: string): number | undefined =>
    services.find(({ metadata }) => metadata.name === service)?.spec.ports?.find((port) => port.name === name)
      ?.port;
  for (const { metadata, spec } of services) {
    const target = workloads.find(({ spec: { template } }) =>
      Object.entries(spec.selector!).every(([label, value]) => template!.metadata.labels[label] === value),
    );
    t.equal(target?.metadata.name, metadata.name, `the service ${metadata.name} selects its pods`);
    const ports = target!.spec.template!.spec.containers[0]!.ports.map(({ name }) => name);
    for (const { targetPort } of spec.ports!)
      t.ok(ports.includes(targetPort), `${metadata.name}: ${targetPort}`);
    t.ok(metadata.name in compose.services, `${metadata.name} is called so under Compose`);
  }
  const collector = parse(textOf('k8s/observability/files/collector/collector.yaml'));
  const tempo = parse(textOf('k8s/observability/files/tempo/tempo.yaml'));
  const { datasources } = parse(textOf('k8s/observability/files/grafana/provisioning/datasources.yaml'));
  t.equal(collector.exporters.otlp.endpoint, `tempo:${portOf('tempo', 'otlp-grpc')}`);
  t.equal(
    tempo.distributor.receivers.otlp.protocols.grpc.endpoint,
    `0.0.0.0:${portOf('tempo', 'otlp-grpc')}`,
  );
  t.equal(tempo.server.http_listen_port, portOf('tempo', 'http'));
  t.equal(
    tempo.metrics_generator.storage.remote_write[0].url,
    `http://prometheus:${portOf('prometheus', 'http')}/api/v1/write`,
  );
  for (const protocol of ['grpc', 'http'])
    t.equal(
      collector.receivers.otlp.protocols[protocol].endpoint,
      `0.0.0.0:${portOf('otel-collector', `otlp-${protocol}`)}`,
    );
  t.equal(collector.extensions.health_check.endpoint, `0.0.0.0:${portOf('otel-collector', 'health')}`);
  t.equal(
    collector.service.telemetry.metrics.readers[0].pull.exporter.prometheus.port,
    portOf('otel-collector', 'metrics'),
  );
  const { receivers, processors, exporters } = collector.service.pipelines.traces;
  for (const [kind, used] of Object.entries({ receivers, processors, exporters }))
    for (const name of used as string[])
      t.ok(name in collector[kind], `the pipeline's ${name} is configured`);
  for (const name of collector.service.extensions) t.ok(name in collector.extensions, name);
  t.equal(processors[0], 'memory_limiter', 'what bounds memory comes first');

  const uids = new Map<string, string>(
    datasources.map((source: { uid: string; type: string }) => [source.uid, source.type]),
  );
  t.same(
    [...uids],
    [
      ['prometheus', 'prometheus'],
      ['tempo', 'tempo'],
    ],
  );
  const [prometheus, traces] = datasources;
  t.equal(prometheus.url, `http://prometheus:${portOf('prometheus', 'http')}`);
  t.equal(traces.url, `http://tempo:${portOf('tempo', 'http')}`);
  t.match(prometheus.jsonData.exemplarTraceIdDestinations, [{ name: 'trace_id', datasourceUid: 'tempo' }]);
  t.match(traces.jsonData, {
    tracesToMetrics: { datasourceUid: 'prometheus' },
    serviceMap: { datasourceUid: 'prometheus' },
  });
  for (const [path, text] of dashboardFiles())
    for (const [, type, uid] of text.matchAll(/"type": "(prometheus|tempo)",\s+"uid": "(\w+)"/g))
      t.equal(uids.get(uid!), type, `${path}: data source ${uid}`);
  for (const name of ['kubernetes', 'compose']) {
    const { scrape_configs } = parse(textOf(`k8s/observability/files/prometheus/prometheus.${name}.yaml`));
    const own = scrape_configs.find(({ job_name }: { job_name: string }) => job_name === 'observability');
    for (const { targets } of own.static_configs) {
      const [host, port] = targets[0].split(':');
      const service = host === 'localhost' ? 'prometheus' : host;
      const ports = services.find(({ metadata }) => metadata.name === service)!.spec.ports!;
      t.ok(
        ports.some((one) => one.port === Number(port)),
        `${name}: ${targets[0]}`,
      );
    }
    t.ok(
      scrape_configs.some(({ job_name }: { job_name: string }) => job_name === 'outrigger'),
      `${name} scrapes sidecars`,
    );
  }
});

t.test('Compose matches the manifests', async (t) => {
  for (const { metadata, spec } of workloads) {
    const [container] = spec.template!.spec.containers as [Container];
    const service = compose.services[metadata.name]!;
    const user = spec.template!.spec.securityContext['runAsUser'];
    t.equal(service.image, container.image);
    t.same(service.command ?? [], container.args ?? [], metadata.name);
    t.same(
      service.environment ?? {},
      Object.fromEntries((container.env ?? []).map(({ name, value }) => [name, value])),
    );
    t.equal(service.user, `${user}:${user}`);
    t.match(service, { read_only: true, cap_drop: ['ALL'] });
    t.ok(service.mem_limit);
    for (const port of service.ports ?? [])
      t.match(port, /^127\.0\.0\.1:/, `${metadata.name}: only this machine`);
    for (const volume of service.volumes) {
      const [from = ''] = volume.split(':');
      if (from.startsWith('.')) t.ok(existsSync(resolve(folder, from)), `${metadata.name}: ${from}`);
    }
  }
});

t.test(
  'kustomize builds it, and every object matches its schema',
  {
    skip: skipWithout('kustomize', 'kubernetes-validate'),
  },
  async (t) => {
    const built = await runProcess(t, requireTool('kustomize'), ['build', folder]);
    t.equal(built.code, 0, built.output.slice(0, 2_000));
    const objects = parseAllDocuments(built.output).map((document) => document.toJS() as Manifest);
    const configMaps = objects
      .filter(({ kind }) => kind === 'ConfigMap')
      .map(({ metadata }) => metadata.name);
    for (const { spec } of objects.filter(({ spec }) => spec?.template !== undefined)) {
      for (const { configMap } of spec.template!.spec.volumes)
        if (configMap !== undefined)
          t.ok(configMaps.includes(configMap.name), `${configMap.name} is generated`);
    }
    const file = join(t.testdir({ 'built.yaml': built.output }), 'built.yaml');
    const checked = await runProcess(t, requireTool('kubernetes-validate'), ['--strict', file]);
    t.equal(checked.code, 0, checked.output);
  },
);
