// `node test/istio/delivery.ts`: istiod hands the committed resources to Envoy, and calls meet what they say.
//
//     Kubernetes API ──▶ istiod ──xDS──▶ Envoy ──▶ pods (here: two HTTP/2 servers and a port where nobody listens)
//
// KUBECONFIG names the API; namespaces agents and istio-system must not be there, and are deleted. Envoy is the plain
// one of `npm run bench`, so Istio's own filters, Telemetry among them, are left out. Pods are WorkloadEntries with
// addresses of this machine; without iptables the proxy's listener is opened by a Sidecar resource.
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parseAllDocuments, stringify } from 'yaml';
import { apply, type KubernetesObject, kubectl, tryKubectl } from '../cluster/kubectl.ts';
import { freePort } from '../support/free-port.ts';
import { runProcess, startProcess } from '../support/process.ts';
import { requireTool, tool } from '../support/tool.ts';
import { waitUntil } from '../support/wait-until.ts';

const root = join(import.meta.dirname, '..', '..');
const pilot = join(root, '.cache', 'istio', 'bin', 'pilot-discovery');
const host = 'research-agent.agents.svc.cluster.local';
const cluster = `outbound|50051||${host}`;
/** Of its own, because the listener must have the port of the Service. */
const listener = { host: '127.0.0.77', port: 50051 };
/** A gRPC message of no bytes. */
const EMPTY_MESSAGE = Buffer.alloc(5);
const patient = { limitMs: 90_000, everyMs: 500 };

t.setTimeout(1_200_000);
const folder = mkdtempSync(join(tmpdir(), 'outrigger-delivery-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const skip = [
  process.env['KUBECONFIG'] === undefined && 'without KUBECONFIG',
  !existsSync(pilot) && 'without pilot-discovery: run node scripts/istio-tools.mjs --pilot',
  tool('envoy') === undefined && 'without envoy: run node scripts/install.mjs --bench',
].find((reason) => reason !== false);

interface Pod {
  readonly port: number;
  readonly calls: () => number;
}

/** A pod that answers every call with this status: without a message, as servers refuse, or in trailers behind one. */
async function startPod(t: Test, status: number, where: 'headers' | 'trailers' = 'headers'): Promise<Pod> {
  let calls = 0;
  const server = http2.createServer();
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on('session', (session) => sessions.add(session));
  server.on('stream', (stream) => {
    calls++;
    stream.on('error', () => {});
    stream.resume();
    const head = { ':status': 200, 'content-type': 'application/grpc' };
    const end = { 'grpc-status': String(status) };
    if (where === 'headers') {
      stream.respond({ ...head, ...end }, { endStream: true });
      return;
    }
    stream.on('wantTrailers', () => stream.sendTrailers(end));
    stream.respond(head, { waitForTrailers: true });
    stream.end(EMPTY_MESSAGE);
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, '0.0.0.0', resolve));
  t.teardown(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return { port, calls: () => calls };
}

/** A pod of the Service, as Istio knows those that Kubernetes doesn't run. */
function pod(name: string, address: string, port: number, labels: object): KubernetesObject {
  return {
    apiVersion: 'networking.istio.io/v1',
    kind: 'WorkloadEntry',
    metadata: { name, namespace: 'agents', labels },
    spec: { address, ports: { grpc: port }, labels },
  };
}

/** Opens the proxy's listener without iptables. */
const egress = {
  apiVersion: 'networking.istio.io/v1',
  kind: 'Sidecar',
  metadata: { name: 'delivery', namespace: 'agents' },
  spec: {
    workloadSelector: { labels: { 'app.kubernetes.io/name': 'gateway' } },
    egress: [
      {
        port: { number: listener.port, protocol: 'GRPC', name: 'grpc' },
        bind: listener.host,
        captureMode: 'NONE',
        hosts: ['./*'],
      },
    ],
  },
};

function bootstrap(xds: number, admin: number): object {
  const at = (port: number) => ({
    endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } },
  });
  const h2 = {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: {} },
    },
  };
  const upstream = (name: string, port: number) => ({
    name,
    type: 'STATIC',
    connect_timeout: '5s',
    typed_extension_protocol_options: h2,
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [at(port)] }] },
  });
  const ads = { ads: {}, initial_fetch_timeout: '0s', resource_api_version: 'V3' };
  return {
    node: {
      id: 'sidecar~10.0.0.1~gateway-0.agents~agents.svc.cluster.local',
      cluster: 'gateway.agents',
      metadata: {
        NAMESPACE: 'agents',
        CLUSTER_ID: 'Kubernetes',
        INTERCEPTION_MODE: 'NONE',
        ISTIO_VERSION: '1.31.0',
        SERVICE_ACCOUNT: 'gateway',
        LABELS: { 'app.kubernetes.io/name': 'gateway' },
      },
    },
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: admin } } },
    dynamic_resources: {
      ads_config: {
        api_type: 'GRPC',
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds-grpc' } }],
      },
      cds_config: ads,
      lds_config: ads,
    },
    // Certificates would come from the agent beside the proxy; nobody is there, so mutual TLS is for the first test only.
    static_resources: { clusters: [upstream('xds-grpc', xds), upstream('sds-grpc', 9)] },
  };
}

/** Everything in Envoy's dump that is called so and is of this kind. */
function dumped(dump: KubernetesObject, kind: string, name: string): KubernetesObject {
  const found: KubernetesObject[] = [];
  const walk = (value: KubernetesObject): void => {
    if (value === null || typeof value !== 'object') return;
    if (value.name === name && String(value['@type'] ?? '').endsWith(kind)) found.push(value);
    for (const each of Object.values(value)) walk(each);
  };
  walk(dump);
  return found.at(-1);
}

t.test('istiod hands the committed files to Envoy, and they hold', { skip: skip ?? false }, async (t) => {
  const { stdout } = await tryKubectl(['get', 'namespaces', '-o', 'name']);
  if (/^namespace\/(agents|istio-system)$/m.test(stdout))
    t.bailout('the cluster has a namespace agents or istio-system already; the suite would delete it');
  t.teardown(() =>
    tryKubectl(['delete', 'namespace', 'agents', 'istio-system', '--ignore-not-found', '--wait=false']),
  );
  for (const name of ['istio-crds', 'gateway-crds'] as const)
    await kubectl(['apply', '--server-side', '--validate=strict', '-f', requireTool(name)]);
  await kubectl(['create', 'namespace', 'agents']);
  await kubectl(['create', 'namespace', 'istio-system']);
  const built = await runProcess(t, requireTool('kustomize'), [
    'build',
    join(root, 'istio/overlays/sidecar'),
  ]);
  const objects: KubernetesObject[] = parseAllDocuments(built.output).map((document) => document.toJS());
  const wanted = objects.filter(({ kind }) =>
    ['Service', 'DestinationRule', 'VirtualService'].includes(kind),
  );
  const failing = await startPod(t, 14);
  const serving = await startPod(t, 0);
  const nobody = await freePort();
  const { selector } = wanted.find(
    ({ kind, metadata }) => kind === 'Service' && metadata.name === 'research-agent',
  ).spec;
  const pods = [
    pod('failing', '127.0.0.2', failing.port, selector),
    pod('serving', '127.0.0.3', serving.port, selector),
  ];
  const all = [...wanted, egress, ...pods].map((object) => stringify(object)).join('---\n');
  const applied = await apply(all);
  t.equal(applied.code, 0, applied.stderr);

  const [xds, web, admin] = [await freePort(), await freePort(), await freePort()];
  const mesh = join(folder, 'mesh.yaml');
  writeFileSync(mesh, 'defaultProviders: {}\naccessLogFile: ""\n');
  const state = join(folder, 'istiod');
  mkdirSync(state);
  const istiod = startProcess(
    t,
    pilot,
    [
      'discovery',
      `--kubeconfig=${process.env['KUBECONFIG']}`,
      `--meshConfig=${mesh}`,
      `--grpcAddr=127.0.0.1:${xds}`,
      `--httpAddr=127.0.0.1:${web}`,
      '--httpsAddr=',
      '--secureGRPCAddr=',
      `--monitoringAddr=127.0.0.1:${await freePort()}`,
      `--ctrlz_port=0`,
    ],
    {
      cwd: state,
      env: {
        PILOT_ENABLE_METADATA_EXCHANGE: 'false',
        PILOT_ENABLE_ALPN_FILTER: 'false',
        PILOT_DISABLE_MX_ALPN: 'true',
        // The schemas of the suite are those of one kind; istiod would wait for the others.
        PILOT_ENABLE_GATEWAY_API: 'false',
        POD_NAMESPACE: 'istio-system',
        POD_NAME: 'istiod-0',
      },
    },
  );
  await waitUntil(
    'istiod is ready',
    async () => (await fetch(`http://127.0.0.1:${web}/ready`)).ok,
    patient,
  ).catch((error: Error) => {
    throw new Error(`${error.message}\n${istiod.logs().slice(-4000)}`);
  });
  const config = join(folder, 'envoy.json');
  writeFileSync(config, JSON.stringify(bootstrap(xds, admin)));
  const envoy = startProcess(t, requireTool('envoy'), ['-c', config, '--concurrency', '1', '-l', 'warning']);
  const ask = async (path: string) => (await fetch(`http://127.0.0.1:${admin}${path}`)).text();
  const dump = async () => JSON.parse(await ask('/config_dump'));
  const stat = async (name: string) => {
    const text = await ask(`/stats?filter=${encodeURIComponent(`research-agent\\..*\\.${name}$`)}`);
    return Number(/: (\d+)/.exec(text)?.[1] ?? 0);
  };

  const given = await waitUntil(
    'Envoy has the cluster',
    async () => dumped(await dump(), 'Cluster', cluster),
    patient,
  ).catch((error: Error) => {
    throw new Error(`${error.message}\n${envoy.logs().slice(-4000)}\n${istiod.logs().slice(-4000)}`);
  });
  writeFileSync(join(folder, 'cluster.json'), JSON.stringify(given, null, 2));
  t.match(
    given.outlier_detection,
    {
      consecutive_gateway_failure: 3,
      enforcing_consecutive_gateway_failure: 100,
      enforcing_consecutive_5xx: 0,
      consecutive_local_origin_failure: 3,
      split_external_local_origin_errors: true,
      interval: '30s',
      base_ejection_time: '30s',
      max_ejection_percent: 50,
    },
    'ejection',
  );
  t.match(
    given.circuit_breakers.thresholds[0],
    {
      max_requests: 1024,
      max_pending_requests: 1024,
      retry_budget: { budget_percent: { value: 20 }, min_retry_concurrency: 3, budget_interval: '10s' },
    },
    'limits and the budget of retries',
  );
  t.equal(given.connect_timeout, '5s');
  t.equal(given.lb_policy, 'LEAST_REQUEST');
  t.match(JSON.stringify(given), /"connection_keepalive":\{"interval":"30s","timeout":"10s"\}/);
  t.match(JSON.stringify(given), /"max_connection_duration":"1800s"/);
  t.match(JSON.stringify(given), /UpstreamTlsContext/, 'mutual TLS');

  // All of them: Envoy takes no listener while a cluster waits for its certificate.
  const plain = structuredClone(wanted.filter(({ kind }) => kind === 'DestinationRule'));
  for (const { spec } of plain) spec.trafficPolicy.tls = { mode: 'DISABLE' };
  t.equal((await apply(plain.map((object) => stringify(object)).join('---\n'))).code, 0);
  const route = await waitUntil(
    'Envoy has the route',
    async () => {
      const text = await ask('/config_dump?resource=dynamic_route_configs');
      const routes = JSON.parse(text).configs?.map((each: KubernetesObject) => each.route_config) ?? [];
      return routes
        .flatMap((each: KubernetesObject) => each.virtual_hosts)
        .find((each: KubernetesObject) => each.domains.includes(host))?.routes[0].route;
    },
    patient,
  ).catch((error: Error) => {
    throw new Error(`${error.message}\n${envoy.logs().slice(-4000)}`);
  });
  t.match(
    route,
    {
      cluster,
      timeout: '60s',
      max_grpc_timeout: '60s',
      retry_policy: {
        num_retries: 2,
        retry_on: 'connect-failure,refused-stream,reset-before-request',
        retry_back_off: { base_interval: '0.025s' },
      },
    },
    'timeout and retries',
  );

  const call = async (): Promise<string> => {
    const session = http2.connect(`http://${listener.host}:${listener.port}`);
    try {
      return await new Promise<string>((resolve, reject) => {
        session.on('error', reject);
        const stream = session.request({
          ':method': 'POST',
          ':path': '/agent.AgentService/ProcessTask',
          ':authority': host,
          'content-type': 'application/grpc',
          te: 'trailers',
        });
        stream.on('error', reject);
        let status = '';
        const read = (headers: http2.IncomingHttpHeaders) => {
          status = String(headers['grpc-status'] ?? status);
        };
        stream.on('response', read);
        stream.on('trailers', read);
        stream.on('close', () => resolve(status));
        stream.resume();
        stream.end(EMPTY_MESSAGE);
      });
    } finally {
      session.destroy();
    }
  };
  await waitUntil('a call goes through', async () => ['0', '14'].includes(await call()), patient);
  await waitUntil(
    'the failing pod is ejected',
    async () => {
      await call();
      return (await stat('outlier_detection.ejections_active')) === 1;
    },
    patient,
  ).catch(async (error: Error) => {
    throw new Error(`${error.message}\n${await ask('/stats?filter=research-agent.*(ejections|rq_[a-z]*)')}`);
  });
  t.equal(await stat(`outlier_detection.ejections_enforced_consecutive_gateway_failure`), 1);
  t.equal(failing.calls(), 3, 'after three failures in a row');
  t.equal(await stat('upstream_rq_retry'), 0, 'UNAVAILABLE was not sent again: a task may have run');
  for (let count = 0; count < 5; count++) t.equal(await call(), '0', 'the other pod answers');
  t.equal(failing.calls(), 3);

  t.equal((await apply(pod('failing', '127.0.0.2', nobody, selector))).code, 0);
  await waitUntil(
    'a pod that takes no connection is passed over',
    async () => {
      t.equal(await call(), '0');
      return (await stat('upstream_rq_retry_success')) > 0;
    },
    patient,
  );

  // What the comments of the files say that Istio can't.
  const others = [
    ['UNAVAILABLE in trailers', await startPod(t, 14, 'trailers'), '14'],
    ['UNIMPLEMENTED', await startPod(t, 12), '12'],
  ] as const;
  for (const [what, { port, calls }, status] of others) {
    t.equal((await apply(pod('failing', '127.0.0.2', port, selector))).code, 0);
    // Until Envoy knows it, calls meet the pod before, which takes no connection and may be ejected for that.
    await waitUntil(`a call met ${what}`, async () => (await call()) === status, patient);
    const ejected = await stat('outlier_detection.ejections_enforced_total');
    let answered = 1;
    await waitUntil(
      `ten calls met ${what}`,
      async () => {
        if ((await call()) === status) answered++;
        return answered >= 10;
      },
      { limitMs: 90_000, everyMs: 20 },
    );
    t.equal(calls(), answered, `${what}: nothing was sent again`);
    t.equal(await stat('outlier_detection.ejections_enforced_total'), ejected, `${what}: no pod was ejected`);
  }

  // Why the VirtualServices are there.
  await kubectl(['delete', 'virtualservice', 'research-agent', '-n', 'agents']);
  await kubectl(['delete', 'workloadentry', 'serving', '-n', 'agents']);
  const refusing = await startPod(t, 14);
  t.equal((await apply(pod('failing', '127.0.0.2', refusing.port, selector))).code, 0);
  const runs = await waitUntil(
    "Istio's default retries are back",
    async () => {
      const before = refusing.calls();
      await call();
      return refusing.calls() - before > 1 && refusing.calls() - before;
    },
    patient,
  );
  t.equal(runs, 3, "with Istio's default one call that ends in UNAVAILABLE runs three times");
  const counters = await ask('/stats?usedonly&filter=research-agent.*(upstream_rq_retry|ejections)');
  t.comment(counters.replaceAll(/^cluster\..*?;\./gm, '').trim());
});
