// The patch: its effect on the pods that it supports, and that it breaks no others.

import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { drainTimes } from './drain-times.ts';
import type { Json, JsonObject } from './json.ts';
import { jsonPatch, type PatchOperation, pathSegments } from './json-patch.ts';
import { type Injection, injectPod } from './patch.ts';
import { PORTS } from './settings.ts';

const context = {
  settings: {
    image: 'registry.example/outrigger:1',
    interceptImage: 'registry.example/outrigger-intercept:1',
    pullPolicy: undefined,
    otlpEndpoint: undefined,
  },
  version: '9.9.9',
};

// biome-ignore lint/suspicious/noExplicitAny: the tests look deep into objects of no fixed form
type Any = any;

function injected(pod: unknown, more: object = {}): Any {
  const injection = injectPod(pod, { ...context, ...more });
  if (injection.outcome !== 'injected') throw new Error(JSON.stringify(injection));
  return injection.pod;
}

function injectionOf(pod: unknown, more: object = {}): Any {
  const injection = injectPod(pod, { ...context, ...more });
  if (injection.outcome !== 'injected') throw new Error(JSON.stringify(injection));
  return injection;
}

function agent(container: object = {}, spec: object = {}, metadata: object = {}): JsonObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'research-agent', ...metadata },
    spec: {
      containers: [
        { name: 'agent', image: 'agent:1', ports: [{ name: 'grpc', containerPort: 50051 }], ...container },
      ],
      ...spec,
    },
  } as unknown as JsonObject;
}

const annotated = (annotations: Record<string, string>) => agent({}, {}, { annotations });
const sidecarOf = (pod: Any) => pod.spec.initContainers[0];
const isLeft = ({ kind }: Any) => kind === 'left';
const envOf = (container: Any, name: string) =>
  container.env?.find((entry: Any) => entry.name === name)?.value;

t.test('injection puts a restricted native sidecar before all other init containers', async (t) => {
  const pod = injected(agent({}, { initContainers: [{ name: 'migrate', image: 'm' }] }));
  const [sidecar, other] = pod.spec.initContainers;
  t.equal(other.name, 'migrate');
  t.match(sidecar, {
    name: 'outrigger',
    image: 'registry.example/outrigger:1',
    restartPolicy: 'Always',
    args: ['run'],
    startupProbe: { httpGet: { path: '/healthz/live', port: 15021 } },
    readinessProbe: { httpGet: { path: '/healthz/ready', port: 15021 } },
    lifecycle: { preStop: { exec: { command: ['outrigger', 'drain'] } } },
  });
  t.strictSame(sidecar.securityContext, {
    allowPrivilegeEscalation: false,
    capabilities: { drop: ['ALL'] },
    privileged: false,
    readOnlyRootFilesystem: true,
    runAsGroup: 15000,
    runAsNonRoot: true,
    runAsUser: 15000,
    seccompProfile: { type: 'RuntimeDefault' },
  });
  t.equal(pod.metadata.annotations['outrigger.dev/injected'], '9.9.9');
  t.equal(envOf(sidecar, 'OUTRIGGER_INBOUND_APP'), '127.0.0.1:50051');
  t.equal(envOf(sidecar, 'OUTRIGGER_NAME'), 'research-agent');
});

t.test(
  'a second injection changes nothing, nor does one into a pod with a hand-written sidecar',
  async (t) => {
    const once = injected(agent());
    t.match(injectPod(once, context), { outcome: 'untouched', because: /already/ });
    const byHand = agent(
      {},
      { initContainers: [{ name: 'outrigger', image: 'x', restartPolicy: 'Always' }] },
    );
    t.match(injectPod(byHand, context), { outcome: 'untouched' });
    const asContainer = agent();
    const spec = asContainer['spec'] as Any;
    spec.containers.push({ name: 'outrigger', image: 'registry:5000/team/outrigger@sha256:00' });
    t.match(injectPod(asContainer, context), { outcome: 'untouched' });
  },
);

t.test('pods that opt out, or that no sidecar can serve, stay unchanged', async (t) => {
  for (const pod of [
    agent({}, {}, { labels: { 'outrigger.dev/inject': 'false' } }),
    agent({}, { hostNetwork: true }),
    agent({}, { os: { name: 'windows' } }),
    agent({}, { nodeSelector: { 'kubernetes.io/os': 'windows' } }),
    agent({}, { containers: [] }),
    agent({}, {}, { annotations: { 'kubernetes.io/config.mirror': 'x' } }),
    { kind: 'Pod' },
    null,
    'pod',
    [],
  ])
    t.match(injectPod(pod, context), { outcome: 'untouched', because: /\w/ });
});

t.test('annotations configure the sidecar, and the refusal lists every problem with them', async (t) => {
  const pod = injected(
    annotated({
      'outrigger.dev/app-port': '9000',
      'outrigger.dev/config': 'research-config',
      'outrigger.dev/log-level': 'debug',
      'outrigger.dev/cpu-request': '250m',
      'outrigger.dev/cpu-limit': '1',
      'outrigger.dev/memory-request': '64Mi',
      'outrigger.dev/memory-limit': '1Gi',
      'outrigger.dev/agent-types': 'research, fact-check',
    }),
  );
  const sidecar = sidecarOf(pod);
  t.equal(envOf(sidecar, 'OUTRIGGER_BUS_CONSUME_AGENT_TYPES'), '["research","fact-check"]');
  t.equal(envOf(sidecar, 'OUTRIGGER_INBOUND_APP'), '127.0.0.1:9000');
  t.equal(envOf(sidecar, 'OUTRIGGER_LOG_LEVEL'), 'debug');
  t.equal(envOf(sidecar, 'OUTRIGGER_NAME'), undefined, 'the config map has the name');
  t.strictSame(sidecar.args, ['run', '--config', '/etc/outrigger/outrigger.yaml']);
  t.strictSame(sidecar.resources, {
    requests: { cpu: '250m', memory: '64Mi' },
    limits: { cpu: '1', memory: '1Gi' },
  });
  t.match(pod.spec.volumes, [{ name: 'outrigger-config', configMap: { name: 'research-config' } }]);
  const wrong = injectPod(
    annotated({
      'outrigger.dev/app-port': '70000',
      'outrigger.dev/config': 'No Good',
      'outrigger.dev/log-level': 'loud',
      'outrigger.dev/memory-limit': '1 GB',
      'outrigger.dev/intercept': 'yes',
      'outrigger.dev/intercept-ports': '50051,x',
      'outrigger.dev/ap-port': '1',
    }),
    context,
  ) as Extract<Injection, { outcome: 'refused' }>;
  t.equal(wrong.outcome, 'refused');
  t.equal(wrong.problems.length, 7, wrong.problems.join('\n'));
});

t.test('injection refuses resources that Kubernetes would refuse', async (t) => {
  const of = (request: string, limit: string, resource = 'memory') =>
    injectPod(
      annotated({
        [`outrigger.dev/${resource}-request`]: request,
        [`outrigger.dev/${resource}-limit`]: limit,
      }),
      context,
    ).outcome;
  t.equal(of('1Gi', '512Mi'), 'refused');
  t.equal(of('1001m', '1', 'cpu'), 'refused');
  t.equal(of('1000m', '1', 'cpu'), 'injected');
  t.equal(of('1G', '1Gi'), 'injected');
  const limited = (cpu: string, memory: string) =>
    sidecarOf(injected(annotated({ 'outrigger.dev/memory-limit': memory, 'outrigger.dev/cpu-limit': cpu })))
      .resources.requests;
  t.strictSame(limited('50m', '96Mi'), { cpu: '50m', memory: '96Mi' }, 'a lower limit lowers the request');
  t.strictSame(limited('2', '2Gi'), { cpu: '100m', memory: '128Mi' }, 'a higher limit does not raise it');
  for (const [name, value] of [
    ['memory-limit', '16Mi'],
    ['memory-limit', '95Mi'],
    ['cpu-limit', '10m'],
  ])
    t.match(injectPod(annotated({ [`outrigger.dev/${name}`]: value! }), context), {
      outcome: 'refused',
      problems: [/too small for the sidecar to run in; give it (96Mi|50m) or more/],
    });
  t.match(injectPod(agent({}, { resources: { limits: { memory: '64Mi' } } }), context), {
    outcome: 'refused',
    problems: [/spec.resources.limits.memory \(64Mi\) is too small/],
  });
  for (const [request, limit] of [
    ['64Mi', '512Mi'],
    ['1Gi', '1Gi'],
  ] as const) {
    const { resources } = sidecarOf(injected(annotated({ 'outrigger.dev/memory-request': request })));
    t.strictSame([resources.requests.memory, resources.limits.memory], [request, limit]);
  }
});

t.test('the sidecar gets no resources of its own in a pod with spec.resources', async (t) => {
  const whole = { resources: { requests: { cpu: '50m' }, limits: { memory: '256Mi' } } };
  t.strictSame(sidecarOf(injected(agent({}, whole))).resources, { requests: {}, limits: {} });
  const asked = agent({}, whole, { annotations: { 'outrigger.dev/memory-request': '64Mi' } });
  t.match(injectPod(asked, context), {
    outcome: 'refused',
    problems: [/memory-request .* remove the annotation/],
  });
  const cpuAlone = agent({}, { resources: { limits: { cpu: '2' } } });
  t.strictSame(sidecarOf(injected(cpuAlone)).resources, {
    requests: { memory: '128Mi' },
    limits: { memory: '512Mi' },
  });
});

t.test('injection refuses conflicting names and ports, and says what to do', async (t) => {
  const refusals: [JsonObject, RegExp][] = [
    [
      agent({ ports: [{ name: 'outrigger-live', containerPort: 1 }] }),
      /container agent has the name outrigger-live, which/,
    ],
    [agent({ ports: [{ containerPort: 15006 }] }), /containerPort 15006 .*inbound port; choose another/],
    [
      agent(
        {},
        { volumes: [{ name: 'outrigger-config', emptyDir: {} }] },
        { annotations: { 'outrigger.dev/config': 'outrigger' } },
      ),
      /volume of the pod has the name outrigger-config,/,
    ],
    [
      agent(
        {},
        { volumes: [{ name: 'outrigger-tls', emptyDir: {} }] },
        { annotations: { 'outrigger.dev/tls-secret': 'writing-agent-tls' } },
      ),
      /volume of the pod has the name outrigger-tls,/,
    ],
    [annotated({ 'outrigger.dev/tls-volume': 'certs' }), /no volume certs.*add the volume/],
    [annotated({ 'outrigger.dev/tls-volume': 'a', 'outrigger.dev/tls-secret': 'b' }), /exclude each other/],
    [annotated({ 'outrigger.dev/port-offset': '14' }), /port-offset takes 0, or a number/],
    [
      annotated({ 'outrigger.dev/agent-types': 'research,' }),
      /agent-types takes agent types such as research/,
    ],
    [
      annotated({ 'outrigger.dev/agent-types': 'a'.repeat(64) }),
      /agent-types takes agent types such as research/,
    ],
    [annotated({ 'outrigger.dev/port-offset': '50515' }), /0, or a number from 100 to 50514/],
    [
      annotated({ 'outrigger.dev/port-offset': '100', 'outrigger.dev/intercept': 'true' }),
      /exclude each other/,
    ],
    [
      annotated({ 'outrigger.dev/app-port': '16006', 'outrigger.dev/port-offset': '1000' }),
      /app's port 16006/,
    ],
    [
      agent({}, { initContainers: [{ name: 'outrigger', image: 'tool' }] }),
      /container of the pod has the name outrigger,/,
    ],
    [annotated({ 'outrigger.dev/app-port': '15001' }), /app's port 15001/],
    [
      agent(
        { securityContext: { runAsUser: 15000 } },
        {},
        { annotations: { 'outrigger.dev/intercept': 'true' } },
      ),
      /rules do not redirect/,
    ],
  ];
  for (const [pod, message] of refusals) {
    const injection = injectPod(pod, context);
    t.equal(injection.outcome, 'refused');
    if (injection.outcome === 'refused') t.match(injection.problems.join('\n'), message);
  }
});

t.test("the app's port is the first that is known to be gRPC; a port in doubt stays the app's", async (t) => {
  const ports = (list: object[], more: object = {}) => injectionOf(agent({ ports: list, ...more }));
  const appOf = ({ pod }: Any) => envOf(sidecarOf(pod), 'OUTRIGGER_INBOUND_APP');
  const doubtsOf = ({ notes }: Any) =>
    notes.filter(({ kind }: Any) => kind === 'doubt').map(({ text }: Any) => text);
  const http = { name: 'http', containerPort: 8080 };
  t.equal(appOf(ports([http, { name: 'grpc', containerPort: 7000 }])), '127.0.0.1:7000');
  t.equal(appOf(ports([{ name: 'main', containerPort: 7000 }, { containerPort: 50051 }])), '127.0.0.1:50051');
  t.equal(
    appOf(ports([{ name: 'api', containerPort: 7000 }], { readinessProbe: { grpc: { port: 7000 } } })),
    '127.0.0.1:7000',
    'a gRPC probe tells more than a name',
  );
  t.equal(appOf(ports([{ name: 'metrics', containerPort: 9090 }])), undefined);
  // REST servers under every name that they have: probed, named, or neither.
  for (const port of [
    { name: 'api', containerPort: 8000 },
    { name: 'admin', containerPort: 8000 },
    { name: 'rest', containerPort: 8000 },
    { name: 'my-http', containerPort: 8000 },
    { name: 'http2', containerPort: 8000 },
  ]) {
    const injection = ports([port]);
    t.equal(appOf(injection), 'none', port.name);
    t.strictSame(injection.pod.spec.containers[0].ports, [port], 'the port keeps its name');
    t.strictSame(doubtsOf(injection), []);
  }
  const probed = ports([{ name: 'server', containerPort: 8000 }], {
    livenessProbe: { httpGet: { port: 'server', path: '/' } },
  });
  t.equal(appOf(probed), 'none');
  t.match(probed.notes, [
    { kind: 'left', text: /port 8000 \(server\): not gRPC, by the httpGet of its livenessProbe/ },
  ]);
  t.equal(probed.pod.spec.containers[0].livenessProbe.httpGet.port, 'server');
  const unknown = ports([{ name: 'server', containerPort: 8000 }]);
  t.equal(appOf(unknown), 'none');
  t.match(doubtsOf(unknown), [/whether port 8000 \(server\) is gRPC.*app-port: "8000", otherwise "none"/]);
  const two = ports([
    { name: 'grpc', containerPort: 7000 },
    { name: 'grpc-admin', containerPort: 7001 },
  ]);
  t.match(doubtsOf(two), [/port 7001 \(grpc-admin\) also looks like gRPC/]);
  // What the Service says of the port.
  const service = (port: object) => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'writer' },
    spec: { selector: { app: 'writer' }, ports: [port] },
  });
  const beside = (port: object, own: object = { name: 'main', containerPort: 8000 }) =>
    injectionOf(agent({ ports: [own] }, {}, { labels: { app: 'writer' } }), {
      around: { services: [service(port)], networkPolicies: [], variables: [] },
    });
  t.equal(appOf(beside({ port: 80, targetPort: 8000, appProtocol: 'grpc' })), '127.0.0.1:8000');
  t.equal(
    appOf(beside({ port: 80, targetPort: 'main', appProtocol: 'kubernetes.io/h2c' })),
    '127.0.0.1:8000',
  );
  t.equal(appOf(beside({ port: 80, targetPort: 'main', name: 'grpc' })), '127.0.0.1:8000');
  t.equal(appOf(beside({ port: 80, targetPort: 'main', appProtocol: 'http' })), 'none');
  t.equal(
    appOf(beside({ port: 8000, appProtocol: 'http' }, { name: 'grpc', containerPort: 8000 })),
    'none',
    'the Service knows better than a name',
  );
  const [web] = [injected(agent({ ports: [http] }))];
  t.equal(
    sidecarOf(web).readinessProbe.httpGet.path,
    '/healthz/live',
    'the app serves nothing that could be unready',
  );
  const none = injected(annotated({ 'outrigger.dev/app-port': 'none' }));
  t.equal(appOf({ pod: none }), 'none');
  t.equal(none.spec.containers[0].ports[0].name, 'grpc');
  const silent = ports([]);
  t.equal(appOf(silent), undefined, 'the pod declares no ports, and may serve on the default port');
  t.match(doubtsOf(silent), [/declares no port/]);
});

t.test('a Service that targets the port by name reaches the sidecar', async (t) => {
  const pod = injected(
    agent({
      readinessProbe: { tcpSocket: { port: 'grpc' } },
      lifecycle: { preStop: { httpGet: { port: 'grpc', path: '/' } } },
    }),
  );
  const [app] = pod.spec.containers;
  t.match(sidecarOf(pod).ports[0], { name: 'grpc', containerPort: PORTS.inbound });
  t.strictSame(app.ports, [{ containerPort: 50051 }]);
  t.equal(app.readinessProbe.tcpSocket.port, 50051, "the name no longer refers to the app's port");
  t.equal(app.lifecycle.preStop.httpGet.port, 50051);
});

t.test(
  'gRPC probes of the app move to the sidecar, which forwards those of other services to the app',
  async (t) => {
    const pod = injected(
      agent({
        startupProbe: { grpc: { port: 50051 }, failureThreshold: 30 },
        readinessProbe: { grpc: { port: 50051, service: 'agent.AgentService' } },
        livenessProbe: { grpc: { port: 50051, service: 'my.own.Service' } },
      }),
    );
    const [app] = pod.spec.containers;
    t.strictSame(app.startupProbe, { grpc: { port: 15006 }, failureThreshold: 30 });
    t.strictSame(app.readinessProbe.grpc, { port: 15006, service: 'agent.AgentService' });
    t.strictSame(app.livenessProbe, {
      httpGet: { path: '/healthz/app?service=my.own.Service', port: 15021, scheme: 'HTTP' },
    });
    const other = injected(agent({ readinessProbe: { grpc: { port: 7777 } } }));
    t.equal(other.spec.containers[0].readinessProbe.grpc.port, 7777);
  },
);

t.test(
  "if the sidecar may use TLS, probes of the app become HTTP probes of its health port, with the service's name",
  async (t) => {
    const probes = {
      startupProbe: { grpc: { port: 50051 }, failureThreshold: 30 },
      readinessProbe: { periodSeconds: 3, grpc: { port: 50051, service: 'agent.AgentService' } },
      livenessProbe: { grpc: { port: 50051, service: 'a&b=c d' } },
    };
    const secret = { 'outrigger.dev/tls-secret': 'research-agent-tls' };
    const [app] = injected(agent(probes, {}, { annotations: secret })).spec.containers;
    const get = (path: string) => ({ path, port: 15021, scheme: 'HTTP' });
    t.strictSame(app.startupProbe, { httpGet: get('/healthz/app'), failureThreshold: 30 });
    t.strictSame(app.readinessProbe, {
      httpGet: get('/healthz/app?service=agent.AgentService'),
      periodSeconds: 3,
    });
    t.strictSame(app.livenessProbe, { httpGet: get('/healthz/app?service=a%26b%3Dc+d') });
    const volume = agent(
      probes,
      { volumes: [{ name: 'svid', csi: { driver: 'csi.spiffe.io' } }] },
      {
        annotations: { 'outrigger.dev/tls-volume': 'svid' },
      },
    );
    t.match(injected(volume).spec.containers[0].startupProbe, { httpGet: get('/healthz/app') });
  },
);

t.test(
  "the app's probes in every container move to the sidecar, and probes of other ports do not",
  async (t) => {
    const probe = (port: number) => ({
      startupProbe: { grpc: { port } },
      readinessProbe: { grpc: { port } },
    });
    const pod = injected(
      agent(probe(50051), {
        initContainers: [{ name: 'cache', image: 'c', restartPolicy: 'Always', ...probe(50051) }],
        containers: [
          { name: 'agent', ports: [{ name: 'grpc', containerPort: 50051 }], ...probe(50051) },
          { name: 'tools', ports: [{ name: 'grpc-tools', containerPort: 50052 }], ...probe(50052) },
          { name: 'watcher', ...probe(50051) },
        ],
      }),
    );
    const ports = (container: Any) => [container.startupProbe.grpc.port, container.readinessProbe.grpc.port];
    const [agentContainer, tools, watcher] = pod.spec.containers;
    t.strictSame(ports(agentContainer), [15006, 15006]);
    t.strictSame(ports(tools), [50052, 50052], 'this container serves its port itself');
    t.strictSame(tools.ports, [{ name: 'grpc-tools', containerPort: 50052 }]);
    t.strictSame(ports(watcher), [15006, 15006]);
    t.equal(pod.spec.initContainers[0].name, 'outrigger', 'before other native sidecars');
    t.strictSame(ports(pod.spec.initContainers[1]), [15006, 15006]);
  },
);

t.test('only the sidecar mounts the Secret or the volume with certificates', async (t) => {
  const mount = (name: string) => ({ name, mountPath: '/run/outrigger/tls', readOnly: true });
  const pod = injected(annotated({ 'outrigger.dev/tls-secret': 'research-agent-tls' }));
  t.strictSame(pod.spec.volumes, [{ name: 'outrigger-tls', secret: { secretName: 'research-agent-tls' } }]);
  t.strictSame(sidecarOf(pod).volumeMounts, [mount('outrigger-tls')]);
  t.equal(pod.spec.containers[0].volumeMounts, undefined);
  const volumes = [{ name: 'svid', csi: { driver: 'csi.cert-manager.io', readOnly: true } }];
  const given = injected(agent({}, { volumes }, { annotations: { 'outrigger.dev/tls-volume': 'svid' } }));
  t.strictSame(given.spec.volumes, volumes);
  t.strictSame(sidecarOf(given).volumeMounts, [mount('svid')]);
});

t.test('the init container that writes the certificates starts before the sidecar', async (t) => {
  const metadata = { annotations: { 'outrigger.dev/tls-volume': 'svid' } };
  const volumes = [{ name: 'svid', emptyDir: { medium: 'Memory' } }];
  const mounts = { volumeMounts: [{ name: 'svid', mountPath: '/svid' }] };
  const helper = { name: 'spiffe-helper', image: 'h', restartPolicy: 'Always', ...mounts };
  const names = (pod: Any) => pod.spec.initContainers.map(({ name }: Any) => name);
  const initContainers = [{ name: 'migrate' }, helper, { name: 'warm' }];
  const pod = injected(agent({}, { volumes, initContainers }, metadata));
  t.strictSame(names(pod), ['migrate', 'spiffe-helper', 'outrigger', 'warm']);
  const reads = { name: 'reads', volumeMounts: [{ name: 'svid', mountPath: '/s', readOnly: true }] };
  const later = injected(agent({}, { volumes, initContainers: [helper, reads] }, metadata));
  t.strictSame(names(later), ['spiffe-helper', 'outrigger', 'reads']);
  const never = injectPod(agent(mounts, { volumes }, metadata), context);
  t.match(never, { outcome: 'refused', problems: [/before the sidecar starts; make the writer an init/] });
});

t.test('only the sidecar gets the token with which it watches EndpointSlices', async (t) => {
  const spec = { automountServiceAccountToken: false };
  const pod = injected(agent({}, spec, { annotations: { 'outrigger.dev/endpoint-slices': 'true' } }));
  t.equal(pod.spec.automountServiceAccountToken, false);
  const [{ name, projected }] = pod.spec.volumes;
  const found = projected.sources.map((source: object) => Object.keys(source)[0]);
  t.strictSame(found, ['serviceAccountToken', 'configMap', 'downwardAPI']);
  t.strictSame(sidecarOf(pod).volumeMounts, [
    { name, mountPath: '/var/run/secrets/kubernetes.io/serviceaccount', readOnly: true },
  ]);
  t.equal(pod.spec.containers[0].volumeMounts, undefined);
  const node = sidecarOf(pod).env.find((entry: Any) => entry.name === 'NODE_NAME');
  t.equal(node.valueFrom.fieldRef.fieldPath, 'spec.nodeName');
  t.equal(injected(agent()).spec.volumes, undefined);
  t.equal(
    pod.spec.serviceAccountName,
    'default',
    'Kubernetes grants no token without a named service account',
  );
  for (const account of [{ serviceAccountName: 'mine' }, { serviceAccount: 'mine' }]) {
    const own = agent({}, account, { annotations: { 'outrigger.dev/endpoint-slices': 'true' } });
    t.match(injected(own).spec, { ...account, containers: [] });
    t.not(injected(own).spec.serviceAccountName, 'default');
  }
});

t.test("injection disables Istio's proxy, or moves the sidecar's ports, or refuses the pod", async (t) => {
  const off = { 'sidecar.istio.io/inject': 'false', 'istio.io/dataplane-mode': 'none' };
  t.strictSame(injected(agent()).metadata.labels, off);
  t.strictSame(injected(agent({}, {}, { labels: { app: 'a', ...off } })).metadata.labels, {
    app: 'a',
    ...off,
  });
  const proxy = { name: 'istio-proxy', image: 'proxyv2', restartPolicy: 'Always' };
  const claims: [spec: object, metadata: object][] = [
    [{ initContainers: [proxy] }, {}],
    [{ containers: [{ name: 'agent' }, { name: 'istio-proxy' }] }, {}],
    [{}, { labels: { 'sidecar.istio.io/inject': 'true' } }],
    [{}, { annotations: { 'sidecar.istio.io/inject': 'true' } }],
    [{}, { labels: { 'istio.io/dataplane-mode': 'ambient' } }],
  ];
  for (const [spec, metadata] of claims) {
    const injection = injectPod(agent({}, spec, metadata), context);
    t.match(injection, { outcome: 'refused', problems: [/uses the sidecar's ports; set the pod's labels/] });
    const annotations = { ...(metadata as Any).annotations, 'outrigger.dev/port-offset': '1000' };
    const moved = injected(agent({}, spec, { ...metadata, annotations }));
    t.strictSame(moved.metadata.labels, (metadata as Any).labels, "Istio's injection stays enabled");
  }
  const probe = { grpc: { port: 50051 } };
  const key = { name: 'OPENAI_API_KEY', value: 'k' };
  const pod = injected(
    agent(
      { readinessProbe: probe, env: [key] },
      {},
      { annotations: { 'outrigger.dev/port-offset': '1000' } },
    ),
  );
  const sidecar = sidecarOf(pod);
  t.strictSame(
    sidecar.env
      .filter(({ name }: Any) => /_LISTEN$/.test(name))
      .map(({ name, value }: Any) => `${name} ${value}`),
    [
      'OUTRIGGER_ADMIN_LISTEN 127.0.0.1:16000',
      'OUTRIGGER_OUTBOUND_LISTEN 127.0.0.1:16001',
      'OUTRIGGER_LLM_LISTEN 127.0.0.1:16002',
      'OUTRIGGER_MCP_LISTEN 127.0.0.1:16003',
      'OUTRIGGER_INBOUND_LISTEN 0.0.0.0:16006',
      'OUTRIGGER_METRICS_LISTEN 0.0.0.0:16020',
      'OUTRIGGER_HEALTH_LISTEN 0.0.0.0:16021',
    ],
  );
  t.strictSame(
    sidecar.ports.map(({ containerPort }: Any) => containerPort),
    [16006, 16020, 16021],
  );
  for (const name of ['startupProbe', 'readinessProbe', 'livenessProbe'])
    t.equal(sidecar[name].httpGet.port, 16021);
  const [app] = pod.spec.containers;
  t.equal(app.readinessProbe.grpc.port, 16006);
  t.equal(envOf(app, 'AGENT_OUTBOUND'), '127.0.0.1:16001');
  t.equal(envOf(app, 'OPENAI_BASE_URL'), 'http://127.0.0.1:16002/v1');
  t.notMatch(JSON.stringify(pod), /\b150(01|02|06|2\d)\b/, 'no default port remains');
});

t.test("delay, app and sidecar share the pod's grace period", async (t) => {
  for (const grace of [0, 1, 2, 3, 4, 5, 6, 10, 30, 60, 600]) {
    const { delay, appSleep, timeout } = drainTimes(grace);
    t.ok(delay >= 0 && appSleep >= 0 && timeout > 0, `${grace} s`);
    t.ok(appSleep < Math.max(1, grace), 'the app gets SIGTERM before SIGKILL');
    if (grace >= 5) t.ok(delay > 0 && appSleep > delay, `${grace} s: callers have time to go elsewhere`);
    if (grace > 3) t.ok(delay + timeout < grace, 'the last call is answered before SIGKILL');
  }
  const pod = injected(agent({}, { terminationGracePeriodSeconds: 90 }));
  t.equal(envOf(sidecarOf(pod), 'OUTRIGGER_DRAIN_DELAY'), '5s');
  t.equal(envOf(sidecarOf(pod), 'OUTRIGGER_DRAIN_TIMEOUT'), '83s');
  t.strictSame(pod.spec.containers[0].lifecycle, { preStop: { sleep: { seconds: 6 } } });
  const own = { preStop: { exec: { command: ['bye'] } } };
  t.strictSame(injected(agent({ lifecycle: own })).spec.containers[0].lifecycle, own);
});

t.test('the key moves to the sidecar, and the app calls agents and the model through it', async (t) => {
  const key = { name: 'OPENAI_API_KEY', valueFrom: { secretKeyRef: { name: 'openai', key: 'api-key' } } };
  const pod = injected(
    agent({
      env: [
        key,
        { name: 'WRITING_AGENT_ADDR', value: 'writing:50051' },
        { name: 'CODE_AGENT_ADDR', value: '127.0.0.1:7' },
      ],
    }),
  );
  const [app] = pod.spec.containers;
  t.strictSame(app.env, [
    { name: 'OPENAI_API_KEY', value: 'held-by-outrigger' },
    { name: 'WRITING_AGENT_ADDR', value: '127.0.0.1:15101' },
    { name: 'CODE_AGENT_ADDR', value: '127.0.0.1:7' },
    { name: 'AGENT_OUTBOUND', value: '127.0.0.1:15001' },
    { name: 'OPENAI_BASE_URL', value: 'http://127.0.0.1:15002/v1' },
  ]);
  t.strictSame(sidecarOf(pod).env[0], key);

  const withUrl = (url: object) => injected(agent({ env: [key, { name: 'OPENAI_BASE_URL', ...url }] }));
  const upstreams = (pod: Any) => JSON.parse(envOf(sidecarOf(pod), 'OUTRIGGER_LLM_UPSTREAMS') ?? 'null');
  t.match(upstreams(withUrl({ value: 'https://llm.example/v1' })), [{ url: 'https://llm.example/v1' }]);
  const referred = withUrl({ valueFrom: { configMapKeyRef: { name: 'llm', key: 'url' } } });
  t.match(upstreams(referred), [{ url: '$(OPENAI_BASE_URL)' }]);
  const order = sidecarOf(referred).env.map((entry: Any) => entry.name);
  t.ok(
    order.indexOf('OPENAI_BASE_URL') < order.indexOf('OUTRIGGER_LLM_UPSTREAMS'),
    'in the order of references',
  );
  for (const unseen of [
    agent({ envFrom: [{ secretRef: { name: 'settings' } }] }),
    agent({ env: [key, { name: 'OPENAI_BASE_URL', value: 'https://$(HOST)/v1' }] }),
    agent({
      env: [
        key,
        { name: 'OPENAI_BASE_URL', valueFrom: { configMapKeyRef: { name: 'l', key: 'u', optional: true } } },
      ],
    }),
  ]) {
    const { spec } = injected(unseen);
    t.notMatch(
      JSON.stringify(spec),
      /held-by-outrigger|15002/,
      "a key that injection can't see stays with the app",
    );
  }
});

t.test(
  "only an address that works through the sidecar leads there, and the report has the others' reasons",
  async (t) => {
    const addresses = (env: object[], annotations = {}, ports: object[] = []) => {
      const { pod, notes } = injectionOf(
        agent({ env, ports: [{ name: 'grpc', containerPort: 50051 }, ...ports] }, {}, { annotations }),
      );
      const targets = JSON.parse(envOf(sidecarOf(pod), 'OUTRIGGER_OUTBOUND_TARGETS') ?? '[]');
      const [app] = pod.spec.containers;
      return { valueOf: (name: string) => envOf(app, name), targets, notes };
    };
    const two = addresses([
      { name: 'WRITING_AGENT_ADDR', value: 'writing-agent:50051' },
      { name: 'CODE_AGENT_ADDR', value: 'dns:///code-agent.other:7000' },
      { name: 'SECOND_WRITING_AGENT_ADDR', value: 'writing-agent:50051' },
    ]);
    t.strictSame(two.targets, [
      { listen: '127.0.0.1:15101', address: 'writing-agent:50051' },
      { listen: '127.0.0.1:15102', address: 'code-agent.other:7000' },
    ]);
    t.equal(two.valueOf('WRITING_AGENT_ADDR'), '127.0.0.1:15101');
    t.equal(two.valueOf('CODE_AGENT_ADDR'), 'dns:///127.0.0.1:15102');
    t.equal(two.valueOf('SECOND_WRITING_AGENT_ADDR'), '127.0.0.1:15101');
    // A port that the app has itself is not taken.
    t.strictSame(
      addresses([{ name: 'A_AGENT_ADDR', value: 'a:1' }], {}, [{ name: 'own', containerPort: 15101 }])
        .targets,
      [{ listen: '127.0.0.1:15102', address: 'a:1' }],
    );
    for (const [entry, why] of [
      [{ value: 'https://writing-agent:50051' }, /scheme/],
      [{ value: 'xds:///writing-agent' }, /scheme/],
      [{ value: 'writing-agent' }, /not one host:port/],
      [{ value: 'one:50051,two:50051' }, /not one host:port/],
      [{ value: 'user:secret@writing-agent:50051' }, /not one host:port/],
      [{ value: '$(HOST):50051' }, /refers to other variables/],
      [{ value: 'writing-agent:443' }, /port 443 means TLS/],
      [{ value: 'http://writing-agent:8000' }, /it is a URL/],
      [{ valueFrom: { configMapKeyRef: { name: 'a', key: 'b' } } }, /valueFrom/],
    ] as [object, RegExp][]) {
      const kept = addresses([{ name: 'X_AGENT_ADDR', ...entry }]);
      t.strictSame(kept.targets, [], JSON.stringify(entry));
      t.match(
        kept.notes.filter(({ kind }: Any) => kind === 'left'),
        [{ text: why }],
      );
      t.notMatch(JSON.stringify(kept.notes), /secret/, 'never a value that is no plain address');
    }
    const secured = [
      { name: 'X_AGENT_ADDR', value: 'x:50051' },
      { name: 'X_AGENT_TLS', value: 'true' },
    ];
    t.match(addresses(secured).notes.filter(isLeft).at(-1), {
      kind: 'left',
      text: /X_AGENT_TLS tells that the app uses TLS/,
    });
    t.equal(addresses(secured.with(1, { name: 'X_AGENT_TLS', value: 'false' })).targets.length, 1);
    // Addresses under other names: told, and led when the annotation names them.
    const other = [{ name: 'REVIEWER_GRPC_URL', value: 'http://reviewer:7000/x' }];
    t.match(addresses(other).notes.filter(isLeft).at(-1), {
      kind: 'left',
      text: /add outrigger.dev\/outbound-env: REVIEWER_GRPC_URL/,
    });
    const named = addresses(other, { 'outrigger.dev/outbound-env': 'REVIEWER_GRPC_URL, NOBODY' });
    t.equal(named.valueOf('REVIEWER_GRPC_URL'), 'http://127.0.0.1:15101/x');
    t.match(
      named.notes.find(({ kind }: Any) => kind === 'doubt'),
      { kind: 'doubt', text: /names NOBODY, which no container/ },
    );
    const off = addresses([{ name: 'X_AGENT_ADDR', value: 'x:50051' }], {
      'outrigger.dev/outbound-env': 'none',
    });
    t.equal(off.valueOf('X_AGENT_ADDR'), 'x:50051');
  },
);

t.test(
  'a key of envFrom moves where the input has its Secret; otherwise it passes through, or is told',
  async (t) => {
    const around = (...variables: object[]) => ({ around: { services: [], networkPolicies: [], variables } });
    const secret = (name: string, stringData: object) => ({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name },
      stringData,
    });
    const map = (name: string, data: object) => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name },
      data,
    });
    const from = (...envFrom: object[]) => agent({ envFrom });
    const keys = { secretRef: { name: 'llm-keys' } };
    const parts = (injection: Any) => ({
      app: Object.fromEntries(
        injection.pod.spec.containers[0].env.map(({ name, value }: Any) => [name, value]),
      ),
      sidecar: sidecarOf(injection.pod).env,
      texts: injection.notes.map(({ kind, text }: Any) => `${kind} ${text}`).join('\n'),
    });
    const key = (name: string, field: string, kind = 'secretKeyRef') => ({
      name: field,
      valueFrom: { [kind]: { name, key: field } },
    });
    const seen = parts(
      injectionOf(
        from(keys, { configMapRef: { name: 'settings' } }),
        around(
          secret('llm-keys', { OPENAI_API_KEY: 'sk-secret' }),
          map('settings', { OPENAI_BASE_URL: 'https://llm.example/v1' }),
        ),
      ),
    );
    t.match(seen.app, { OPENAI_API_KEY: 'held-by-outrigger', OPENAI_BASE_URL: 'http://127.0.0.1:15002/v1' });
    t.strictSame(seen.sidecar.slice(0, 2), [
      key('llm-keys', 'OPENAI_API_KEY'),
      key('settings', 'OPENAI_BASE_URL', 'configMapKeyRef'),
    ]);
    t.match(seen.texts, /did OPENAI_API_KEY of the container agent moves to the sidecar/);
    t.notMatch(JSON.stringify(seen), /sk-secret|llm\.example/, 'only keys of a Secret are read');
    const prefixed = parts(
      injectionOf(from({ ...keys, prefix: 'OPENAI_' }), around(secret('llm-keys', { API_KEY: 'x' }))),
    );
    t.match(prefixed.sidecar[0].valueFrom.secretKeyRef, { key: 'API_KEY' });
    // Not in the input: the sidecar learns the provider, and the key passes through.
    const likely = parts(injectionOf(from(keys)));
    t.equal(likely.app.OPENAI_BASE_URL, 'http://127.0.0.1:15002/v1');
    t.equal(likely.app.OPENAI_API_KEY, undefined);
    t.match(likely.sidecar[0], {
      name: 'OPENAI_BASE_URL',
      valueFrom: { secretKeyRef: { name: 'llm-keys', optional: true } },
    });
    t.match(
      likely.texts,
      /left a key in the Secret llm-keys stays with the container agent and passes through/,
    );
    for (const unlikely of [
      from({ secretRef: { name: 'settings' } }),
      from(keys, { secretRef: { name: 'more' } }),
    ]) {
      const { app, texts } = parts(injectionOf(unlikely));
      t.equal(app.OPENAI_BASE_URL, undefined, 'a variable might hide another provider');
      t.match(texts, /left the container agent has variables from the Secret .* to move it, write it in env/);
    }
    // A key in sight does not go to another provider than the one that may be out of sight.
    const apart = parts(
      injectionOf(agent({ env: [{ name: 'OPENAI_API_KEY', value: 'k' }], envFrom: [keys] })),
    );
    t.match(apart.sidecar[1], { name: 'OPENAI_BASE_URL', valueFrom: { secretKeyRef: { optional: true } } });
    const azure = parts(injectionOf(agent({ env: [{ name: 'AZURE_OPENAI_ENDPOINT', value: 'https://x' }] })));
    t.equal(azure.app.OPENAI_BASE_URL, undefined, 'its clients refuse a second address');
    t.equal(azure.app.AZURE_OPENAI_ENDPOINT, 'http://127.0.0.1:15002');
    t.match(azure.texts, /did AZURE_OPENAI_ENDPOINT of the container agent leads its requests/);
  },
);

t.test(
  "clients of Anthropic, Google and Azure come through the sidecar, with the app's own key",
  async (t) => {
    const key = (name: string) => ({ name, valueFrom: { secretKeyRef: { name: 'keys', key: name } } });
    const of = (env: Any[], more: Any = {}, metadata: Any = {}) => {
      const injection = injectionOf(agent({ env, ...more }, {}, metadata));
      const { pod, notes } = injection as Any;
      const [app] = pod.spec.containers;
      const upstreams = JSON.parse(envOf(sidecarOf(pod), 'OUTRIGGER_LLM_UPSTREAMS') ?? 'null');
      return { app, upstreams, text: JSON.stringify(notes) };
    };
    const openai = { name: 'openai', url: 'https://api.openai.com/v1' };
    const claude = of([key('ANTHROPIC_API_KEY')]);
    t.equal(envOf(claude.app, 'ANTHROPIC_BASE_URL'), 'http://127.0.0.1:15002', 'without /v1');
    t.match(claude.app.env[0], key('ANTHROPIC_API_KEY'), 'the key stays');
    t.strictSame(claude.upstreams, [
      openai,
      { name: 'anthropic', kind: 'anthropic', url: 'https://api.anthropic.com' },
    ]);
    const all = of([
      key('OPENAI_API_KEY'),
      key('GEMINI_API_KEY'),
      { name: 'GOOGLE_GEMINI_BASE_URL', value: 'https://gemini.example' },
      key('ANTHROPIC_API_KEY'),
      { name: 'ANTHROPIC_BASE_URL', value: 'http://127.0.0.1:4000' },
    ]);
    t.strictSame(all.upstreams, [
      { ...openai, api_key_env: 'OPENAI_API_KEY' },
      { name: 'gemini', kind: 'gemini', url: 'https://gemini.example' },
    ]);
    t.equal(envOf(all.app, 'GOOGLE_GEMINI_BASE_URL'), 'http://127.0.0.1:15002');
    t.equal(envOf(all.app, 'ANTHROPIC_BASE_URL'), 'http://127.0.0.1:4000', 'a helper of its own stays');
    const stays = (env: Any[], because: RegExp, more: Any = {}, metadata: Any = {}) => {
      const { app, upstreams, text } = of(env, more, metadata);
      t.notMatch(JSON.stringify(app.env), /15002"/, String(because));
      t.equal(upstreams, null);
      t.match(text, because);
    };
    const elsewhere = {
      name: 'ANTHROPIC_BASE_URL',
      valueFrom: { configMapKeyRef: { name: 'm', key: 'url' } },
    };
    stays([key('ANTHROPIC_API_KEY'), elsewhere], /its value is not written out/);
    stays([key('AZURE_OPENAI_API_KEY')], /AZURE_OPENAI_ENDPOINT is not set/);
    const config = { annotations: { 'outrigger.dev/config': 'settings' } };
    stays([key('ANTHROPIC_API_KEY')], /the configuration of the pod says where requests go/, {}, config);
    stays([key('ANTHROPIC_API_KEY')], /finds a provider in envFrom/, {
      envFrom: [{ secretRef: { name: 'openai' } }],
    });
    const vertex = of([key('GOOGLE_API_KEY'), { name: 'GOOGLE_GENAI_USE_VERTEXAI', value: 'true' }]);
    t.equal(envOf(vertex.app, 'GOOGLE_GEMINI_BASE_URL'), undefined, 'Vertex has another address');
  },
);

t.test('the label in a wrong place counts where it says no, and is told where it says yes', async (t) => {
  const labels = { 'outrigger.dev/inject': 'false' };
  t.match(injectPod(agent({}, {}, { annotations: labels }), context), {
    outcome: 'untouched',
    because: /annotation/,
  });
  t.match(injectPod(agent(), { ...context, workloadLabels: labels }), {
    outcome: 'untouched',
    because: /workload/,
  });
  const yes = injectionOf(annotated({ 'outrigger.dev/inject': 'true' }));
  t.match(yes.notes.at(-1), { kind: 'doubt', text: /is an annotation here.* move it to labels/ });
  const above = injectionOf(agent(), { workloadAnnotations: { 'outrigger.dev/app-port': '7000' } });
  t.match(above.notes.at(-1), {
    kind: 'doubt',
    text: /app-port of the workload has no effect; write it in the template/,
  });
  const short = injectionOf(agent({}, { terminationGracePeriodSeconds: 5 }));
  t.match(short.notes.at(-1), { kind: 'doubt', text: /is 5: .*1 s to go elsewhere and calls 2 s to finish/ });
});

t.test('a container with another key keeps it', async (t) => {
  const pod = agent({ env: [{ name: 'OPENAI_API_KEY', value: 'one' }] });
  (pod['spec'] as Any).containers.push({ name: 'other', env: [{ name: 'OPENAI_API_KEY', value: 'two' }] });
  const [app, other] = injected(pod).spec.containers;
  t.equal(envOf(app, 'OPENAI_API_KEY'), 'held-by-outrigger');
  t.equal(envOf(other, 'OPENAI_API_KEY'), 'two');
  t.equal(envOf(other, 'OPENAI_BASE_URL'), undefined);
});

t.test("traces go to the app's own collector, or to the injector's", async (t) => {
  const settings = { ...context.settings, otlpEndpoint: 'http://collector:4318' };
  const from = (env: object[]) => sidecarOf(injected(agent({ env }), { settings }));
  t.equal(envOf(from([]), 'OTEL_EXPORTER_OTLP_ENDPOINT'), 'http://collector:4318');
  const own = from([
    { name: 'OTEL_EXPORTER_OTLP_ENDPOINT', value: 'http://mine:4318' },
    { name: 'OTEL_SERVICE_NAME', value: 'the-app' },
    { name: 'OTEL_EXPORTER_OTLP_HEADERS', value: 'key=$(TOKEN)' },
  ]);
  t.equal(envOf(own, 'OTEL_EXPORTER_OTLP_ENDPOINT'), 'http://mine:4318');
  t.equal(envOf(own, 'OTEL_SERVICE_NAME'), undefined);
  t.equal(
    envOf(own, 'OTEL_EXPORTER_OTLP_HEADERS'),
    undefined,
    'it refers to a variable that the sidecar lacks',
  );
});

t.test(
  'the init container for interception follows the sidecar, and may change only the network',
  async (t) => {
    const pod = injected(
      annotated({ 'outrigger.dev/intercept': 'true', 'outrigger.dev/intercept-ports': '50051,9000' }),
    );
    const [sidecar, step] = pod.spec.initContainers;
    t.equal(
      envOf(sidecar, 'OUTRIGGER_INBOUND_LISTEN'),
      '[::]:15006',
      'a redirected IPv6 connection keeps its address',
    );
    t.equal(
      envOf(sidecar, 'OUTRIGGER_OUTBOUND_LISTEN'),
      'localhost:15001',
      "the app's IPv6 connections end on [::1]",
    );
    t.match(step, { name: 'outrigger-intercept', image: 'registry.example/outrigger-intercept:1' });
    t.strictSame(step.securityContext.capabilities, { add: ['NET_ADMIN'], drop: ['ALL'] });
    t.match(step.args[0], /tcp dport 50051 redirect to :15006/);
    t.match(step.args[0], /meta skuid 15000 return[\s\S]*tcp dport \{ 9000, 50051 \} redirect to :15001/);
  },
);

/** Applies RFC 6902, as the API server does. */
function apply(document: Json, operations: readonly PatchOperation[]): Json {
  let result: Any = structuredClone(document);
  for (const { op, path, value } of operations) {
    const segments = pathSegments(path);
    const last = segments.pop();
    if (last === undefined) {
      result = structuredClone(value);
      continue;
    }
    let parent = result;
    for (const segment of segments) {
      if (!Object.hasOwn(parent, segment)) throw new Error(`${path} does not exist`);
      parent = parent[segment];
    }
    if (op !== 'add' && !Object.hasOwn(parent, last)) throw new Error(`${path} does not exist`);
    if (op === 'remove') delete parent[last];
    else if (last === '-' && Array.isArray(parent)) parent.push(structuredClone(value));
    else
      Object.defineProperty(parent, last, {
        value: structuredClone(value),
        enumerable: true,
        writable: true,
        configurable: true,
      });
  }
  return result;
}

t.test('a JSON patch turns any document into any other', async (t) => {
  const json = fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<Json>;
  fc.assert(
    fc.property(json, json, (before, after) => {
      // -0 is 0 in JSON.
      const [one, other] = [JSON.parse(JSON.stringify(before)), JSON.parse(JSON.stringify(after))];
      t.strictSame(JSON.stringify(sorted(apply(one, jsonPatch(one, other)))), JSON.stringify(sorted(other)));
    }),
    { numRuns: 500 },
  );
});

function sorted(value: Json): Json {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, inner]) => [key, sorted(inner)]);
}

const odd = fc.jsonValue({ maxDepth: 2 });
const maybe = <T>(value: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 6, arbitrary: value }, { weight: 1, arbitrary: odd });
const word = fc.constantFrom(
  'a',
  'grpc',
  'http',
  'outrigger',
  'outrigger-config',
  '',
  'x'.repeat(70),
  '\ud800',
  'istio-proxy',
  'OPENAI_API_KEY',
);
const port = fc.oneof(
  fc.constantFrom(50051, 15006, 15001, 0, -1, 1e9, 1.5),
  fc.integer({ min: 1, max: 65535 }),
);
const record = (shape: Record<string, fc.Arbitrary<unknown>>) => fc.record(shape, { requiredKeys: [] });
const probe = record({
  grpc: maybe(record({ port: maybe(port), service: maybe(word) })),
  tcpSocket: record({ port: word }),
});
const container = record({
  name: maybe(word),
  image: maybe(word),
  restartPolicy: maybe(word),
  ports: maybe(
    fc.array(maybe(record({ name: maybe(word), containerPort: maybe(port), protocol: maybe(word) })), {
      maxLength: 3,
    }),
  ),
  env: maybe(
    fc.array(
      maybe(
        record({
          name: maybe(fc.constantFrom('OPENAI_API_KEY', 'OPENAI_BASE_URL', 'CODE_AGENT_ADDR', 'OTEL_X', 'A')),
          value: maybe(word),
          valueFrom: maybe(record({ secretKeyRef: maybe(record({ name: word, optional: fc.boolean() })) })),
        }),
      ),
      { maxLength: 4 },
    ),
  ),
  readinessProbe: maybe(probe),
  livenessProbe: maybe(probe),
  lifecycle: maybe(record({ preStop: maybe(probe), postStart: odd })),
  securityContext: maybe(record({ runAsUser: maybe(fc.constantFrom(0, 15000)) })),
});
const annotationName = fc.constantFrom(
  'app-port',
  'config',
  'log-level',
  'cpu-limit',
  'memory-request',
  'intercept',
  'intercept-ports',
  'tls-secret',
  'tls-volume',
  'endpoint-slices',
  'port-offset',
  'agent-types',
);
const annotationValue = fc.constantFrom('true', 'none', '50051', 'debug', '1', '64Mi', 'name', '', 'Ü');
const pods = maybe(
  record({
    kind: word,
    metadata: maybe(
      record({
        name: maybe(word),
        generateName: maybe(fc.constantFrom('a-5d4f8c7b9-', '-', '')),
        labels: maybe(
          fc.dictionary(
            fc.constantFrom('app', 'outrigger.dev/inject', 'istio.io/dataplane-mode', '__proto__'),
            maybe(word),
          ),
        ),
        annotations: maybe(
          fc.dictionary(
            annotationName.map((name) => `outrigger.dev/${name}`),
            maybe(annotationValue),
            { maxKeys: 2 },
          ),
        ),
      }),
    ),
    spec: maybe(
      record({
        containers: maybe(fc.array(maybe(container), { maxLength: 3 })),
        initContainers: maybe(fc.array(maybe(container), { maxLength: 2 })),
        volumes: maybe(fc.array(maybe(record({ name: maybe(word) })), { maxLength: 2 })),
        terminationGracePeriodSeconds: maybe(fc.integer({ min: -5, max: 1e6 })),
        hostNetwork: maybe(fc.boolean()),
        securityContext: maybe(record({ runAsUser: maybe(fc.integer()) })),
      }),
    ),
  }),
);

t.test('injectPod never throws, is idempotent, and leaves its input unchanged', async (t) => {
  let injections = 0;
  fc.assert(
    fc.property(pods, (pod) => {
      const before = JSON.stringify(pod);
      const injection = injectPod(pod, context);
      if (JSON.stringify(pod) !== before) throw new Error('injectPod changed its input');
      if (injection.outcome !== 'injected') return;
      injections++;
      const result = injection.pod as Any;
      if (injectPod(result, context).outcome !== 'untouched') throw new Error('not idempotent');
      const names = result.spec.initContainers.filter((entry: Any) => entry?.name === 'outrigger');
      if (names.length !== 1) throw new Error(`${names.length} sidecars`);
      const given = (pod as Any).spec;
      if (result.spec.containers.length !== given.containers.length)
        throw new Error('the result lacks a container');
      const plain = JSON.parse(before);
      const patched = apply(plain, jsonPatch(plain, result));
      if (JSON.stringify(sorted(patched)) !== JSON.stringify(sorted(JSON.parse(JSON.stringify(result)))))
        throw new Error('the patch has another result');
      result.spec.containers.forEach((probed: Any, index: number) => {
        const moved =
          probed?.readinessProbe?.grpc?.port !== given.containers[index]?.readinessProbe?.grpc?.port;
        if (moved && result.spec.initContainers[0].readinessProbe.httpGet.path === '/healthz/live')
          throw new Error('a probe moved to a sidecar without an app');
      });
    }),
    { numRuns: 5_000 },
  );
  t.ok(injections > 300, `${injections} pods were injected`);
});
