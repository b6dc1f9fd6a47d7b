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
import t from 'tap';
import { parseAllDocuments, stringify } from 'yaml';
import { freePort } from '../../scripts/harness/free-port.ts';
import { runProcess, startProcess } from '../../scripts/harness/process.ts';
import { requireTool, tool } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { apply, type KubernetesObject, kubectl, tryKubectl } from '../cluster/kubectl.ts';
import { bootstrap } from './envoy.ts';
import { EMPTY_MESSAGE, startPod } from './pod.ts';

const root = join(import.meta.dirname, '..', '..');
const pilot = join(root, '.cache', 'istio', 'bin', 'pilot-discovery');
const host = 'research-agent.agents.svc.cluster.local';
const cluster = `outbound|50051||${host}`;
/** Of its own, because the listener must have the port of the Service. */
const listener = { host: '127.0.0.77', port: 50051 };
const patient = { limitMs: 90_000, everyMs: 500 };

t.setTimeout(1_200_000);
const folder = mkdtempSync(join(tmpdir(), 'outrigger-delivery-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const skip = [
  process.env['KUBECONFIG'] === undefined && 'without KUBECONFIG',
  !existsSync(pilot) && 'without pilot-discovery: run node scripts/istio-tools.mjs --pilot',
  tool('envoy') === undefined && 'without envoy: run node scripts/install.mjs --bench',
].find((reason) => reason !== false);

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

async function namespaces(phase: 'Active' | 'Terminating'): Promise<string[]> {
  const { items } = JSON.parse(await kubectl(['get', 'namespaces', '-o', 'json']));
  return items
    .filter(({ status }: KubernetesObject) => status.phase === phase)
    .map(({ metadata }: KubernetesObject) => metadata.name)
    .filter((name: string) => name === 'agents' || name === 'istio-system');
}

t.test(
  'istiod delivers the committed files to Envoy, and they take effect',
  { skip: skip ?? false },
  async (t) => {
    // One that an earlier suite has deleted may still be there for a while.
    await waitUntil(
      'deleted namespaces have disappeared',
      async () => (await namespaces('Terminating')).length === 0,
      patient,
    );
    if ((await namespaces('Active')).length > 0)
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
    const envoy = startProcess(t, requireTool('envoy'), [
      '-c',
      config,
      '--concurrency',
      '1',
      '-l',
      'warning',
    ]);
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
    const routes = await waitUntil(
      'Envoy has the routes',
      async () => {
        const text = await ask('/config_dump?resource=dynamic_route_configs');
        const routes = JSON.parse(text).configs?.map((each: KubernetesObject) => each.route_config) ?? [];
        return routes
          .flatMap((each: KubernetesObject) => each.virtual_hosts)
          .find((each: KubernetesObject) => each.domains.includes(host))?.routes;
      },
      patient,
    ).catch((error: Error) => {
      throw new Error(`${error.message}\n${envoy.logs().slice(-4000)}`);
    });
    const retryPolicy = {
      num_retries: 2,
      retry_on: 'connect-failure,refused-stream,reset-before-request',
      retry_back_off: { base_interval: '0.025s' },
    };
    t.match(
      routes,
      [
        {
          match: {
            path: '/agent.AgentService/ProcessTask',
            headers: [{ name: 'grpc-timeout', present_match: true, invert_match: true }],
          },
          route: { cluster, timeout: '60s', max_grpc_timeout: '60s', retry_policy: retryPolicy },
        },
        {
          match: { prefix: '/' },
          route: { cluster, timeout: '0s', max_grpc_timeout: '0s', retry_policy: retryPolicy },
        },
      ],
      'a time limit for unary calls without a deadline, and retries',
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
      throw new Error(
        `${error.message}\n${await ask('/stats?filter=research-agent.*(ejections|rq_[a-z]*)')}`,
      );
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
      t.equal(
        await stat('outlier_detection.ejections_enforced_total'),
        ejected,
        `${what}: no pod was ejected`,
      );
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
  },
);
