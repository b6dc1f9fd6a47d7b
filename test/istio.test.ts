// Istio's resources: what outrigger istio writes, the files committed of it, and the overlays around them.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { runProcess } from '../scripts/harness/process.ts';
import fc from '../scripts/harness/properties.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { openConfigSource } from '../sidecar/config/source.ts';
import { istioSets } from '../sidecar/kubernetes/istio/sets.ts';
import { writeKustomization, writeSet, writeSets } from '../sidecar/kubernetes/istio/write.ts';
import { faultsOf, schemasIn } from './support/crd-schemas.ts';

const root = join(import.meta.dirname, '..');
const overlays = readdirSync(join(root, 'istio/overlays')).sort();
const settings = { namespace: 'agents', callers: ['gateway'], trustDomain: 'cluster.local' };

// biome-ignore lint/suspicious/noExplicitAny: objects of every kind, read by paths
type KubernetesObject = any;

/** Of every kind of destination and rule: test/istio/NAME.yaml. */
const configurations: Record<string, KubernetesObject> = Object.fromEntries(
  readdirSync(join(root, 'test/istio'))
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => [name.slice(0, -5), parse(readFileSync(join(root, 'test/istio', name), 'utf8'))]),
);

t.setTimeout(290_000);

const folder = mkdtempSync(join(tmpdir(), 'outrigger-istio-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

function objectsIn(text: string): KubernetesObject[] {
  return parseAllDocuments(text)
    .map((document) => {
      if (document.errors.length > 0) throw new Error(String(document.errors));
      return document.toJS();
    })
    .filter((object) => object !== null);
}

function isIstio({ apiVersion }: KubernetesObject): boolean {
  return /\.istio\.io\/|^gateway\.networking/.test(apiVersion);
}

/** A configuration, in the file's form. */
async function setsOf(file: object): Promise<ReturnType<typeof istioSets>> {
  const path = join(folder, 'outrigger.yaml');
  writeFileSync(path, stringify(file));
  const opened = await openConfigSource({ path, env: {}, flags: [] });
  if ('problems' in opened) throw new Error(JSON.stringify(opened.problems));
  return istioSets(opened.source.current, settings);
}

async function textOf(file: object): Promise<string> {
  return writeSets(await setsOf(file));
}

/** One cluster of one Service, with these settings. */
function withCluster(cluster: object, rest: object = {}): object {
  return { outbound: { clusters: { 'writing-agent': { dns: 'writing-agent:50051', ...cluster } } }, ...rest };
}

async function objectOf(file: object, kind: string, name?: string): Promise<KubernetesObject> {
  return objectsIn(await textOf(file)).find(
    (object) => object.kind === kind && (name === undefined || object.metadata.name === name),
  );
}

/** Beside each of these there may be one with a time limit, which goes to the same destination. */
function withoutLimits(http: readonly KubernetesObject[]): KubernetesObject[] {
  return http.filter(({ name }) => !name.endsWith('-without-deadline'));
}

/** Comments as one line each, without what wrapping has put between their words. */
function comments(text: string): string {
  return text
    .split('\n')
    .filter((line) => /^\s*(- )?#/.test(line))
    .map((line) => line.replace(/^\s*(- )?#/, ''))
    .join('\n')
    .replaceAll(/\n {2}/g, ' ');
}

async function build(t: Test, overlay: string): Promise<string> {
  const { code, output } = await runProcess(t, requireTool('kustomize'), ['build', join(root, overlay)]);
  if (code !== 0) throw new Error(`${overlay}: ${output}`);
  return output;
}

t.test(
  'the committed files equal the output of outrigger istio for the agents of the manifests',
  async (t) => {
    const args = ['--config', join(root, 'k8s/base/gateway/outrigger.yaml'), '--namespace', 'agents'];
    const command = [join(root, 'sidecar/main.ts'), 'istio', ...args, '--caller=gateway'];
    const written = join(folder, 'written');
    const files = await runProcess(t, process.execPath, [...command, '--directory', written]);
    t.equal(files.code, 0, files.output);
    const committed = join(root, 'istio/base');
    t.strictSame(readdirSync(written).sort(), readdirSync(committed).sort());
    for (const name of readdirSync(written)) {
      const text = readFileSync(join(written, name), 'utf8');
      t.equal(readFileSync(join(committed, name), 'utf8'), text, name);
    }
    const stdout = await runProcess(t, process.execPath, command);
    const sets = ['research-agent', 'writing-agent', 'code-agent', 'gateway'];
    t.equal(
      stdout.output,
      sets.map((name) => readFileSync(join(committed, `${name}.yaml`), 'utf8')).join('---\n'),
    );
    for (const name of sets.slice(0, 3)) {
      const kinds = objectsIn(readFileSync(join(committed, `${name}.yaml`), 'utf8')).map(({ kind }) => kind);
      t.strictSame(kinds, [
        'DestinationRule',
        'VirtualService',
        'PeerAuthentication',
        'AuthorizationPolicy',
        'Sidecar',
        'Telemetry',
      ]);
    }
  },
);

t.test('outrigger istio checks its arguments', async (t) => {
  const run = async (...args: string[]) =>
    runProcess(t, process.execPath, [join(root, 'sidecar/main.ts'), 'istio', ...args]);
  t.match(await run('--help'), { code: 0, output: /--trust-domain NAME/ });
  t.match(await run('--namespace', 'a b'), { code: 64, output: /--namespace "a b": write the name/ });
  t.match(await run('--caller=a/b/c'), { code: 64, output: /--caller "a\/b\/c": write a service account/ });
  t.match(await run('--caller'), { code: 64, output: /--caller has no value/ });
  t.match(await run('--inbound.ap=x'), { code: 64, output: /did you mean --inbound\.app/ });
  t.match(await run('--directory', '/dev/null/x'), { code: 64, output: /can't be written \(ENOTDIR\)/ });
  t.match(await run(), { code: 0, output: /^# outbound\.clusters is empty/ });
});

t.test('every overlay builds, and its parts fit together', { skip: skipWithout('kustomize') }, async (t) => {
  for (const overlay of overlays) {
    const objects = objectsIn(await build(t, `istio/overlays/${overlay}`));
    const named = (kind: string, name: string) =>
      objects.find((object) => object.kind === kind && object.metadata.name === name);
    const templates = objects
      .filter(({ kind }) => kind === 'Deployment')
      .map(({ spec }) => spec.template.metadata);
    const selected = (labels: Record<string, string>) =>
      templates.filter((each) => Object.entries(labels).every(([key, value]) => each.labels[key] === value))
        .length;
    t.ok(templates.length >= 4, overlay);
    for (const { kind, metadata, spec } of objects.filter(isIstio)) {
      const what = `${overlay}: ${kind} ${metadata.name}`;
      t.equal(metadata.namespace, 'agents', what);
      const labels = spec.selector?.matchLabels ?? spec.workloadSelector?.labels;
      if (labels !== undefined) t.ok(selected(labels) >= 1, `${what} selects pods`);
      for (const { kind, name } of spec.targetRefs ?? [])
        t.ok(named(kind, name), `${what} → ${kind} ${name}`);
      const hosts = [spec.host ?? [], spec.hosts ?? []]
        .flat()
        .filter((host: string) => !host.startsWith('*'));
      for (const host of hosts) {
        const [name = ''] = host.split('.');
        t.equal(host, `${name}.agents.svc.cluster.local`);
        t.match(named('Service', name), { spec: { ports: [{ appProtocol: 'grpc' }] } }, `${what} → ${host}`);
        t.not(
          named('Service', name).spec.clusterIP,
          'None',
          `${what}: Istio balances over no headless Service`,
        );
      }
      for (const { from = [], to = [] } of spec.rules ?? []) {
        for (const principal of from.flatMap((each: KubernetesObject) => each.source.principals)) {
          const [, account = ''] = /^cluster\.local\/ns\/agents\/sa\/(.*)$/.exec(principal) ?? [];
          // The waypoint's is made by Istio with the Gateway's name.
          t.ok(named('ServiceAccount', account) ?? named('Gateway', account), `${what} ← ${principal}`);
        }
        for (const port of to.flatMap((each: KubernetesObject) => each.operation.ports))
          t.equal(port, '50051');
      }
    }
    t.notOk(/\.istio\.io\/v1(alpha|beta)/.test(JSON.stringify(objects)), `${overlay} uses the v1 APIs`);
  }
  const sidecar = objectsIn(await build(t, 'istio/overlays/sidecar'));
  t.notOk(JSON.stringify(sidecar).includes('"outrigger.dev/inject":"true"'), 'one proxy in a pod');
  const ambient = objectsIn(await build(t, 'istio/overlays/ambient'));
  t.strictSame(
    ambient.filter(({ kind }) => kind === 'Sidecar' || kind === 'Gateway').map(({ kind }) => kind),
    ['Gateway'],
  );
  for (const { spec } of ambient.filter(({ kind }) => kind === 'AuthorizationPolicy')) {
    const seesPaths = spec.rules.some((rule: KubernetesObject) => rule.to !== undefined);
    t.equal(
      spec.selector === undefined,
      seesPaths,
      'a policy with paths is for the waypoint, not for ztunnel',
    );
  }
  for (const { spec } of ambient.filter(({ kind }) => kind === 'DestinationRule'))
    t.notOk(spec.trafficPolicy.tls, "TLS is ztunnel's");
  const agents: string[] = ambient
    .filter(({ kind, metadata }) => kind === 'Deployment' && /-agent$/.test(metadata.name))
    .map(({ metadata }) => metadata.name);
  t.ok(agents.length >= 3);
  const linkerd = objectsIn(await build(t, 'istio/overlays/linkerd'));
  const beside = objectsIn(await build(t, 'istio/overlays/beside-outrigger'));
  for (const name of agents) {
    const targets = (object: KubernetesObject) => object.spec.targetRefs?.[0].name === name;
    t.ok(
      ambient.some((object) => object.kind === 'AuthorizationPolicy' && targets(object)),
      `ambient: ${name}`,
    );
    const host = `${name}.agents.svc.cluster.local`;
    for (const kind of ['DestinationRule', 'VirtualService'])
      t.ok(
        beside.some((object) => object.kind === kind && (object.spec.host ?? object.spec.hosts[0]) === host),
        `beside-outrigger: ${kind} of ${name}`,
      );
    const service = linkerd.find(({ kind, metadata }) => kind === 'Service' && metadata.name === name);
    t.ok(service.metadata.annotations['balancer.linkerd.io/failure-accrual'], `linkerd: ${name}`);
  }
  for (const { spec } of beside.filter(({ kind }) => kind === 'Deployment'))
    t.match(spec.template.metadata.labels, {
      'sidecar.istio.io/inject': 'false',
      'istio.io/dataplane-mode': 'none',
    });
});

t.test(
  'every object matches the schemas of Istio and Kubernetes',
  { skip: skipWithout('kustomize', 'istio-crds', 'gateway-crds', 'kubernetes-validate') },
  async (t) => {
    const known = schemasIn(requireTool('istio-crds'), requireTool('gateway-crds'));
    const plain: string[] = [];
    for (const overlay of overlays) {
      const objects = objectsIn(await build(t, `istio/overlays/${overlay}`));
      t.strictSame(
        objects.filter(isIstio).flatMap((object) => faultsOf(known, object)),
        [],
        overlay,
      );
      const file = join(folder, `${overlay}.yaml`);
      writeFileSync(
        file,
        objects
          .filter((object) => !isIstio(object))
          .map((object) => stringify(object))
          .join('---\n'),
      );
      plain.push(file);
    }
    const args = ['--kubernetes-version', '1.36.0', '--strict', '--quiet', ...plain];
    const { code, output } = await runProcess(t, requireTool('kubernetes-validate'), args, {
      limitMs: 200_000,
    });
    t.equal(code, 0, output);

    t.test('objects match the schemas for any configuration', async (t) => {
      for (const [name, file] of Object.entries({ ...configurations, defaults: withCluster({}) })) {
        const objects = objectsIn(await textOf(file));
        t.strictSame(
          objects.flatMap((object) => faultsOf(known, object)),
          [],
          name,
        );
      }
    });

    t.test('the schemas reject invalid objects', async (t) => {
      const wrong = await objectOf(withCluster({}), 'VirtualService');
      wrong.spec.http[0].retries.attempt = 3;
      t.match(faultsOf(known, wrong), [/additional properties.*"attempt"/]);
      const policy = await objectOf(withCluster({}), 'PeerAuthentication');
      policy.spec.mtls.mode = 'STRIKT';
      t.match(faultsOf(known, policy), [/mtls\/mode must be equal to one of/]);
      const rule = await objectOf(withCluster({}), 'DestinationRule');
      rule.spec.trafficPolicy.connectionPool.http.http2MaxRequests = 'many';
      t.match(faultsOf(known, rule), [/http2MaxRequests must be integer/]);
    });
  },
);

t.test('the numbers of the configuration appear in the objects', async (t) => {
  const cluster = {
    balancer: 'round_robin',
    connect_timeout: '1500ms',
    timeout: '90s',
    max_timeout: '5m',
    keepalive: { time: '20s', timeout: '3s' },
    limits: { max_pending_calls: 7, max_concurrent_calls: 9 },
    outlier_detection: {
      consecutive_failures: 4,
      interval: '11s',
      base_ejection_time: '12s',
      max_ejection_percent: 34,
    },
    retry: {
      max_attempts: 4,
      idempotent_methods: ['/agent.AgentService/HealthCheck'],
      per_try_timeout: '2s',
      backoff: { base: '40ms', max: '400ms' },
      budget: { percent: 30, min_concurrent: 5 },
    },
  };
  const file = withCluster(cluster, {
    inbound: { app: '127.0.0.1:7070', max_concurrent_calls: 33, keepalive: { max_connection_age: '10m' } },
    log: { access: true },
  });
  t.match((await objectOf(file, 'DestinationRule')).spec, {
    host: 'writing-agent.agents.svc.cluster.local',
    trafficPolicy: {
      loadBalancer: { simple: 'ROUND_ROBIN', localityLbSetting: { enabled: false } },
      connectionPool: {
        tcp: { connectTimeout: '1500ms', maxConnectionDuration: '600s' },
        http: {
          http2MaxRequests: 9,
          http1MaxPendingRequests: 7,
          http2KeepAlive: { interval: '20s', timeout: '3s' },
        },
      },
      retryBudget: { percent: 30, minRetryConcurrency: 5 },
      outlierDetection: {
        consecutiveGatewayErrors: 4,
        consecutive5xxErrors: 0,
        consecutiveLocalOriginFailures: 4,
        splitExternalLocalOriginErrors: true,
        interval: '11s',
        baseEjectionTime: '12s',
        maxEjectionPercent: 34,
      },
      tls: { mode: 'ISTIO_MUTUAL' },
    },
  });
  const { http } = (await objectOf(file, 'VirtualService')).spec;
  const idempotent = {
    attempts: 3,
    retryOn: 'connect-failure,refused-stream,reset-before-request,reset,unavailable',
    perTryTimeout: '2s',
    backoff: '40ms',
  };
  const others = {
    attempts: 3,
    retryOn: 'connect-failure,refused-stream,reset-before-request',
    backoff: '40ms',
  };
  const healthCheck = { uri: { exact: '/agent.AgentService/HealthCheck' } };
  const processTask = { uri: { exact: '/agent.AgentService/ProcessTask' } };
  const deadline = { 'grpc-timeout': {} };
  // The first that matches wins: a route has one limit, and the proxy shortens deadlines to it.
  t.strictSame(
    http.map(({ match, timeout, retries }: KubernetesObject) => ({ match, timeout, retries })),
    [
      { match: [{ ...healthCheck, headers: deadline }], timeout: '300s', retries: idempotent },
      { match: [healthCheck], timeout: undefined, retries: idempotent },
      { match: [{ ...processTask, withoutHeaders: deadline }], timeout: '90s', retries: others },
      { match: [{ headers: deadline }], timeout: '300s', retries: others },
      { match: undefined, timeout: undefined, retries: others },
    ],
  );
  t.equal((await objectOf(file, 'Sidecar')).spec.inboundConnectionPool.http.http2MaxRequests, 33);
  t.match((await objectOf(file, 'AuthorizationPolicy')).spec.rules[0], {
    from: [{ source: { principals: ['cluster.local/ns/agents/sa/gateway', /\/sa\/writing-agent$/] } }],
    to: [{ operation: { ports: ['7070'], paths: ['/agent.AgentService/*', '/grpc.health.v1.Health/*'] } }],
  });
  t.strictSame((await objectOf(file, 'Telemetry')).spec.accessLogging, [{ providers: [{ name: 'envoy' }] }]);
});

t.test('Istio retries no call that may have run, whatever the codes', async (t) => {
  const codes = ['CANCELLED', 'DEADLINE_EXCEEDED', 'INTERNAL', 'RESOURCE_EXHAUSTED', 'UNAVAILABLE'];
  const { http } = (await objectOf(withCluster({ retry: { on: codes } }), 'VirtualService')).spec;
  const untouched = 'connect-failure,refused-stream,reset-before-request';
  t.strictSame(
    http.map(({ retries }: KubernetesObject) => retries.retryOn),
    [untouched, untouched],
  );
  const off = (await objectOf(withCluster({ retry: { max_attempts: 1 } }), 'VirtualService')).spec.http;
  for (const { retries } of off) t.match(retries, { attempts: 1, retryOn: untouched });
});

t.test("no time limit ends a stream, or overrides the caller's deadline", async (t) => {
  const routes = async (cluster: object, match?: object) => {
    const rules = match === undefined ? {} : { routes: [{ match, cluster: 'writing-agent' }] };
    const { outbound } = withCluster(cluster) as { outbound: object };
    return (await objectOf({ outbound: { ...outbound, ...rules } }, 'VirtualService')).spec.http;
  };
  const limited = (http: KubernetesObject[]) =>
    http.filter(({ timeout }) => timeout !== undefined).map(({ match, timeout }) => [match, timeout]);
  const processTask = { exact: '/agent.AgentService/ProcessTask' };
  const withoutHeaders = { 'grpc-timeout': {} };
  t.strictSame(limited(await routes({})), [[[{ uri: processTask, withoutHeaders }], '60s']]);
  t.strictSame(limited(await routes({ timeout: '0s' })), []);
  t.strictSame(limited(await routes({}, { path_prefix: '/notes.' })), [], 'a route that no task takes');
  t.strictSame(limited(await routes({}, { path_prefix: '/agent.', headers: { 'x-team': 'blue' } })), [
    [[{ uri: processTask, headers: { 'x-team': { exact: 'blue' } }, withoutHeaders }], '60s'],
  ]);
  const retry = { idempotent_methods: [processTask.exact], on: ['UNAVAILABLE'] };
  const idempotent = await routes({ retry });
  t.match(idempotent[0], { match: [{ uri: processTask, withoutHeaders }], timeout: '60s' });
  t.match(idempotent[0].retries.retryOn, /unavailable/, 'the first that matches has both');
  t.strictSame(idempotent[1].match, [{ uri: processTask }]);
});

t.test('routes become rules in the same order, and the first match wins', async (t) => {
  const sets = await setsOf(configurations['routes']);
  const of = (name: string) => objectsIn(writeSet(sets.find((set) => set.name === name)!));
  const rulesOf = (name: string) =>
    withoutLimits(of(name).find(({ kind }) => kind === 'VirtualService').spec.http).map(
      ({ match, route }) => [
        match?.[0]?.uri?.prefix ?? match?.[0]?.headers?.['x-team']?.exact ?? 'any',
        route[0].destination.host.split('.')[0],
      ],
    );
  t.strictSame(rulesOf('code'), [
    ['blue', 'code'],
    ['any', 'code'],
  ]);
  t.strictSame(rulesOf('writing-agent'), [['blue', 'code']]);
  t.strictSame(rulesOf('route-writer'), [
    ['/agent.AgentService/', 'writing-agent'],
    ['blue', 'code'],
  ]);
  t.equal(of('writing-agent')[0].spec.host, 'writing-agent.tools.svc.cluster.local');
  t.match(
    comments(writeSets(sets)),
    /agent_type code to code: the agent type is in the message, which Istio does not read/,
  );
  t.match(comments(writeSets(sets)), /Calls to writer, which is no cluster's name/);
});

t.test(
  'a rule applies to a host in any spelling of the authority, and to its port if it has one',
  async (t) => {
    const routes = [
      { match: { authority: 'Writing-Agent.agents.svc.:50051' }, cluster: 'code' },
      { match: { authority: 'writing-agent.agents' }, cluster: 'writing-agent' },
      { match: { authority: 'planner.:50051' }, cluster: 'code' },
      { match: { authority: 'planner.agents:50052', path_prefix: '/a/' }, cluster: 'writing-agent' },
      { match: { authority: '[::1]:7' }, cluster: 'code' },
    ];
    const clusters = {
      'writing-agent': { dns: 'writing-agent.:15006' },
      code: { dns: 'code.agents.svc.:15006' },
    };
    const file = { outbound: { cluster_domain: 'k8s.corp', routes, clusters } };
    const services = objectsIn(await textOf(file)).filter(({ kind }) => kind === 'VirtualService');
    t.strictSame(
      services.map(({ spec: { hosts, http } }) => [
        hosts[0],
        ...withoutLimits(http).map(({ match, route }) => [
          match?.[0].port ?? 'any',
          match?.[0].uri?.prefix ?? 'any',
          route[0].destination.host,
        ]),
      ]),
      [
        [
          'writing-agent.agents.svc.k8s.corp',
          [50051, 'any', 'code.agents.svc.k8s.corp'],
          ['any', 'any', 'writing-agent.agents.svc.k8s.corp'],
        ],
        [
          'planner',
          [50051, 'any', 'code.agents.svc.k8s.corp'],
          [50052, '/a/', 'writing-agent.agents.svc.k8s.corp'],
        ],
      ],
    );
    t.match(comments(await textOf(file)), /Calls to ::1: a VirtualService needs a host name/);
  },
);

t.test('a host outside the mesh gets a ServiceEntry and no policies of pods', async (t) => {
  const sets = await setsOf(configurations['outside']);
  const of = (name: string) => objectsIn(writeSet(sets.find((set) => set.name === name)!));
  t.strictSame(
    of('static').map(({ kind }) => kind),
    ['ServiceEntry', 'DestinationRule', 'VirtualService'],
  );
  t.match(of('static')[0].spec, {
    resolution: 'STATIC',
    endpoints: [
      { address: '10.0.0.7', ports: { grpc: 50051 } },
      { address: 'fd00::7', ports: { grpc: 50052 } },
    ],
  });
  t.match(of('static')[1].spec.trafficPolicy.tls, {
    mode: 'SIMPLE',
    sni: 'agent.example',
    subjectAltNames: ['agent.example'],
  });
  t.match(of('named')[0].spec, {
    hosts: ['agents.example.com'],
    resolution: 'DNS',
    ports: [{ number: 443 }],
  });
  t.match(of('named')[1].spec.trafficPolicy.tls, { mode: 'SIMPLE', sni: 'agents.example.com' });
  t.match(
    comments(writeSet(sets.find(({ name }) => name === 'odd-name-1')!)),
    /endpoints unix:\/run\/agent\.sock, example\.org:2: .*omitted/,
  );
});

t.test(
  'identities of TLS become principals and names, and a comment lists patterns that Istio lacks',
  async (t) => {
    const path = join(folder, 'tls.yaml');
    const clusters = { inside: { dns: 'inside:1' }, outside: { dns: 'agents.example.com:443' } };
    writeFileSync(path, stringify({ outbound: { clusters } }));
    const opened = await openConfigSource({ path, env: {}, flags: [] });
    if ('problems' in opened) throw new Error(JSON.stringify(opened.problems));
    // Files are not read here, so they need not be there.
    const { current } = opened.source;
    const files = {
      ca: '/tls/ca.pem',
      cert: '/tls/tls.crt',
      key: '/tls/tls.key',
      serverName: 'agents.example',
    };
    const tls = { ...files, allowIdentities: ['spiffe://example/ns/a/sa/b', '*.example.com'] };
    const identities = [
      'spiffe://example/ns/x/sa/y',
      'spiffe://example/ns/z/*',
      'gateway.example',
      'spiffe://e/*/sa/c',
    ];
    const config = {
      ...current,
      inbound: {
        ...current.inbound,
        tls: {
          cert: files.cert,
          key: files.key,
          clientCa: files.ca,
          allowIdentities: identities,
          required: true,
        },
      },
      outbound: {
        ...current.outbound,
        clusters: new Map(
          [...current.outbound.clusters].map(([name, cluster]) => [name, { ...cluster, tls }]),
        ),
      },
    };
    const text = writeSets(istioSets(config, settings));
    const objects = objectsIn(text);
    const of = (kind: string, name: string) =>
      objects.find((object) => object.kind === kind && object.metadata.name === name).spec;
    t.strictSame(of('AuthorizationPolicy', 'inside').rules[0].from[0].source.principals, [
      'cluster.local/ns/agents/sa/gateway',
      'cluster.local/ns/agents/sa/inside',
      'example/ns/x/sa/y',
      'example/ns/z/*',
    ]);
    t.match(
      comments(text),
      /allow_identities gateway\.example, spiffe:\/\/e\/\*\/sa\/c: Istio identifies callers only by SPIFFE/,
    );
    t.strictSame(of('DestinationRule', 'inside').trafficPolicy.tls, { mode: 'ISTIO_MUTUAL' });
    t.strictSame(of('DestinationRule', 'outside').trafficPolicy.tls, {
      mode: 'MUTUAL',
      clientCertificate: '/tls/tls.crt',
      privateKey: '/tls/tls.key',
      caCertificates: '/tls/ca.pem',
      sni: 'agents.example',
      subjectAltNames: ['spiffe://example/ns/a/sa/b'],
    });
    t.match(comments(text), /allow_identities \*\.example\.com: subjectAltNames takes no patterns/);
  },
);

/** For each setting a value that is not its default, where the general ones of its type won't do. */
const otherValues: Record<string, unknown> = {
  // Not below timeout, which is 60 s.
  max_timeout: '2m',
  'inbound.max_timeout': '2m',
  balancer: 'ring_hash',
  dns: 'other-agent:50051',
  endpoints: undefined,
  'kubernetes.service': 'other-agent',
  'kubernetes.namespace': 'tools',
  'kubernetes.port': 'http',
  'kubernetes.zone': 'eu-west-1a',
  'health_check.protocol': 'agent',
  'retry.on': ['ABORTED', 'UNAVAILABLE'],
  'retry.backoff.base': '30ms',
  'retry.idempotent_methods': ['/agent.AgentService/HealthCheck'],
  'inbound.app': 'unix:/run/agent.sock',
  'inbound.listen': '0.0.0.0:16006',
  'inbound.limits.max_header_bytes': 2048,
  'inbound.token_budget.from': 'nobody',
};
/** What another setting of the same file must be for this one to matter. */
const features = {
  health_check: { interval: '5s' },
  hedge: { delay: '1s' },
  retry: { idempotent_methods: ['/agent.AgentService/ListAgents'] },
  outlier_detection: { base_ejection_time: '5s' },
};

t.test('every setting is expressed, or a comment names it', async (t) => {
  const schema = JSON.parse(readFileSync(join(root, 'sidecar/config/schema.json'), 'utf8')).properties;
  const inFull = (cluster: object, inbound: object) =>
    withCluster(
      { ...features, ...cluster },
      { inbound: { rate_limit: { calls_per_second: 5 }, queue: { max_calls: 5 }, ...inbound } },
    );
  // In place of dns, where it is the discovery that is asked for.
  const watched = { dns: undefined, kubernetes: { service: 'writing-agent', port: 'grpc' } };
  const usual = await textOf(inFull({}, {}));
  const usualWatched = await textOf(inFull(watched, {}));
  let count = 0;
  for (const [section, { properties }] of [
    ['inbound', schema.inbound],
    ['cluster', schema.outbound.properties.clusters.additionalProperties],
  ] as const) {
    for (const [path, leaf] of leavesOf(properties)) {
      // TLS needs files, and has tests of its own.
      const full = section === 'inbound' ? `inbound.${path}` : path;
      if (/(^|\.)tls\./.test(full)) continue;
      const value = full in otherValues ? otherValues[full] : another(leaf);
      if (value === undefined) continue;
      const changed = nested(path, value);
      const watches = full.startsWith('kubernetes.');
      const before = watches ? usualWatched : usual;
      const merged =
        section === 'inbound'
          ? inFull({}, merge({ rate_limit: { calls_per_second: 5 }, queue: { max_calls: 5 } }, changed))
          : inFull(merge({ ...features, ...(watches ? watched : {}) }, changed), {});
      const text = await textOf(merged);
      const words = comments(text);
      const names = [full, full.split('.').slice(0, -1).join('.'), path.split('.').at(-1)!].filter(Boolean);
      const named = names.some((name) =>
        new RegExp(`(^|[^\\w.])${name.replaceAll('.', '\\.')}\\b`, 'm').test(words),
      );
      t.ok(
        text !== before || named,
        `${full}: map it in sidecar/kubernetes/istio/, or say there why Istio can't`,
      );
      count++;
    }
  }
  t.ok(count > 60, `${count} settings`);
});

t.test('docs/istio.md compares every setting of clusters and pods', async (t) => {
  const schema = JSON.parse(readFileSync(join(root, 'sidecar/config/schema.json'), 'utf8')).properties;
  const document = readFileSync(join(root, 'docs/istio.md'), 'utf8');
  const [, clusters = '', pods = ''] = document.split('\n## Setting by setting');
  for (const key of Object.keys(schema.outbound.properties.clusters.additionalProperties.properties))
    t.match(clusters, new RegExp(`\\b${key}\\b`), `clusters.NAME.${key}`);
  for (const key of Object.keys(schema.inbound.properties).filter((name) => name !== 'listen'))
    t.match(pods, new RegExp(`\\b${key}\\b`), `inbound.${key}`);
});

interface Leaf {
  readonly type?: string;
  readonly default?: unknown;
}

function leavesOf(properties: Record<string, KubernetesObject>, prefix = ''): [string, Leaf][] {
  return Object.entries(properties).flatMap(([name, schema]) =>
    schema.type === 'object' && schema.properties !== undefined
      ? leavesOf(schema.properties, `${prefix}${name}.`)
      : [[`${prefix}${name}`, schema] as [string, Leaf]],
  );
}

function another({ type, default: value }: Leaf): unknown {
  if (type === 'boolean') return !value;
  if (type === 'integer' || type === 'number') return Number(value) === 3 ? 4 : 3;
  if (typeof value === 'string' && /^\d+m?s?$/.test(value)) return '7s';
  return typeof value === 'string' ? 'agent.AgentService' : undefined;
}

function nested(path: string, value: unknown): Record<string, unknown> {
  const [first = '', ...rest] = path.split('.');
  return { [first]: rest.length === 0 ? value : nested(rest.join('.'), value) };
}

function merge(base: Record<string, unknown>, over: Record<string, unknown>): Record<string, unknown> {
  const both = Object.entries(over).map(([key, value]) => {
    const below = base[key];
    const deep = typeof below === 'object' && typeof value === 'object' && !Array.isArray(value);
    return [key, deep ? merge(below as Record<string, unknown>, value as Record<string, unknown>) : value];
  });
  return { ...base, ...Object.fromEntries(both) };
}

t.test("a comment beside the field explains what Istio can't express", async (t) => {
  const said: [string, object, RegExp][] = [
    [
      'trailers',
      {},
      /Istio counts a status in trailers after a message as success, and so every stream that fails/,
    ],
    ['a status inside OK', {}, /Istio counts OK with TaskResponse\.status FAILED or TIMEOUT as success/],
    ['de-duplication', {}, /task\.deduplicate: no sidecar recognizes a task by its id/],
    ['who owns retries', {}, /three hops with three attempts each make 27 attempts/],
    ['ejection by latency', {}, /ejects by failure rate and by latency, for which Istio has no setting/],
    ['the circuit', {}, /circuit_breaker \(open after 5 failures in a row.*no half-open state/],
    ['hedging', { hedge: { percentile: 95 } }, /hedge: Istio makes no second attempt/],
    [
      'codes',
      { ...features, retry: { ...features.retry, on: ['ABORTED', 'UNAVAILABLE'] } },
      /retry\.on ABORTED:/,
    ],
    [
      'the longest ejection',
      { outlier_detection: { max_ejection_time: '600s' } },
      /max_ejection_time 10m: .*is 5m/,
    ],
    ['the longest wait', { retry: { backoff: { max: '1s' } } }, /backoff\.max 1s: .*is 250ms/],
    ['zero that means none', { limits: { max_pending_calls: 0 } }, /max_pending_calls 0: 1 is the minimum/],
    [
      'no ejection',
      { outlier_detection: { max_ejection_percent: 0 } },
      /max_ejection_percent 0: no outlierDetection/,
    ],
    [
      'active checks',
      { health_check: { interval: '5s' } },
      /health_check: Istio sends pods no health checks/,
    ],
    ['first chunk', { first_chunk_timeout: '2s' }, /first_chunk_timeout: Istio has no such timeout/],
    ['task ids', { balancer: 'ring_hash' }, /the task id is in the message/],
    ['the provider of the model', {}, /llm \(openai\): Istio has no fallback between providers/],
  ];
  for (const [what, cluster, pattern] of said)
    t.match(comments(await textOf(withCluster(cluster))), pattern, what);
  const off = comments(await textOf(configurations['off']));
  t.notMatch(off, /circuit_breaker/, 'disabled settings need no comment');
  t.notMatch(off, /task\.status_is_verdict|task\.deduplicate/);
});

t.test('comments stay comments, whatever the names contain', async (t) => {
  const prefix = '/a.B/#\'"{}[]:|>%&*!-';
  const routes = [{ match: { path_prefix: prefix, headers: { 'x-a': '*: &a !b - c #d' } }, cluster: 'x' }];
  const agentType = { match: { agent_type: 'x # y: "z" --- kind: Pod' }, cluster: 'x' };
  const sets = await setsOf({
    outbound: { routes: [agentType, ...routes], clusters: { x: { dns: 'x:1' } } },
  });
  // What the configuration would refuse, should it come some other way.
  const raw = { ...sets[0]!, head: ['a\u2028kind: Pod\r\n---\nkind: Pod\u0085kind: Pod'] };
  t.strictSame(objectsIn(writeSet(raw)), objectsIn(writeSet(sets[0]!)));
  const text = writeSets(sets);
  t.notOk(objectsIn(text).some(({ kind }) => kind === 'Pod'));
  const { match } = objectsIn(text).find(({ kind }) => kind === 'VirtualService').spec.http[0];
  t.strictSame(match, [{ uri: { prefix }, headers: { 'x-a': { exact: '*: &a !b - c #d' } } }]);
  for (const line of text.split('\n'))
    t.ok(line.length <= 200 || !line.includes('#'), 'comments are wrapped');
});

t.test('files of a folder have unique names, and kustomize finds them', async (t) => {
  const clusters = {
    'a.b': { dns: 'ab:1' },
    'a-b': { dns: 'a-b:1' },
    kustomization: { dns: 'kustomization:1' },
  };
  const external = { 'A.b': { endpoints: ['10.0.0.1:1'] }, gateway: { dns: 'gateway:1' } };
  const sets = await setsOf({ outbound: { clusters: { ...clusters, ...external } } });
  const names = sets.map(({ name }) => name);
  t.equal(new Set([...names, 'kustomization']).size, names.length + 1, names.join(' '));
  t.strictSame(
    objectsIn(writeKustomization(sets))[0].resources,
    names.map((name) => `${name}.yaml`),
  );
  const identities = objectsIn(writeSets(sets)).map(({ kind, metadata }) => `${kind} ${metadata.name}`);
  t.strictSame(identities, [...new Set(identities)], 'no object is written twice');
});

t.test('two clusters of one Service share the settings of the first, with a comment', async (t) => {
  const clusters = { one: { dns: 'same:1', timeout: '7s' }, two: { dns: 'same-headless:2', timeout: '8s' } };
  const text = await textOf({ outbound: { clusters } });
  t.match(comments(text), /two: the same endpoints as one/);
  t.strictSame(
    objectsIn(text)
      .filter(({ kind }) => kind === 'VirtualService')
      .map(({ spec }) => spec.http[0].timeout),
    ['7s'],
  );
});

t.test('any valid configuration gives objects with unique names and bounded comments', async (t) => {
  const targets = [
    '127.0.0.1:1',
    'unix:/a',
    '[fd00::1]:7',
    '10.0.0.1:9',
    'x.y:3',
    'a.b.svc:4',
    'n-headless:2',
    'e.example.org:443',
  ];
  const cluster = fc.record({
    endpoints: fc.array(fc.constantFrom(...targets), { minLength: 1, maxLength: 3 }),
    timeout: fc.constantFrom('0s', '5ms', '61s', '1h'),
    outlier_detection: fc.record({ max_ejection_percent: fc.constantFrom(0, 0.5, 33.3, 100) }),
  });
  const match = fc.record(
    {
      authority: fc.stringMatching(/^[\x21-\x7e]{1,8}$/),
      path_prefix: fc.stringMatching(/^\/[\x21-\x7e]{0,8}$/),
      agent_type: fc.stringMatching(/^[\x20-\x7e]{1,8}$/),
    },
    { requiredKeys: [] },
  );
  const clusters = fc.dictionary(fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,6}$/), cluster, {
    minKeys: 1,
    maxKeys: 4,
  });
  let right = 0;
  const property = fc.asyncProperty(
    clusters,
    fc.array(match, { maxLength: 4 }),
    async (clusters, matches) => {
      const names = Object.keys(clusters);
      const routes = matches.map((match, index) => ({ match, cluster: names[index % names.length] }));
      const sets = await setsOf({ outbound: { clusters, routes } }).catch(() => undefined);
      if (sets === undefined) return;
      right++;
      const objects = objectsIn(writeSets(sets));
      const meant = sets.flatMap(({ resources }) => resources.map(({ object }) => object));
      if (JSON.stringify(objects) !== JSON.stringify(meant)) throw new Error('YAML says something else');
      const identities = objects.map(
        ({ kind, metadata }) => `${kind} ${metadata.namespace}/${metadata.name}`,
      );
      if (new Set(identities).size < identities.length) throw new Error(`twice: ${identities}`);
    },
  );
  await fc.assert(property, { numRuns: 400 });
  t.ok(right > 100, `${right} of them were right`);
});
