// Pods of every kind: what the API server takes, it takes with the sidecar in it.

import t from 'tap';
import { freePort } from '../../scripts/harness/free-port.ts';
import { startProcess } from '../../scripts/harness/process.ts';
import fc from '../../scripts/harness/properties.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { type KubernetesObject, program } from './kubectl.ts';
import { sidecarsOf } from './objects.ts';

const WANTED = 100;

const some = <T>(shape: Record<string, fc.Arbitrary<T>>) => fc.record(shape, { requiredKeys: [] });
/** Undefined, and so absent, most of the time: what keeps a pod from having a sidecar is in few of them. */
const rarely = <T>(...values: T[]) =>
  fc.oneof(
    { weight: 6, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.constantFrom(...values) },
  );
const oneOf = fc.constantFrom;
const port = fc
  .record({
    containerPort: oneOf(50051, 50051, 50052, 8080, 53, 9000),
    name: oneOf('grpc', 'grpc', 'http', 'metrics', 'grpc-outrigger', undefined),
    protocol: oneOf('TCP', 'UDP', undefined),
    hostPort: oneOf(undefined, undefined, 8080),
  })
  .map(({ hostPort, ...rest }) =>
    hostPort === undefined ? rest : { ...rest, containerPort: hostPort, hostPort },
  );
const handler = oneOf<object>(
  { grpc: { port: 50051 } },
  { grpc: { port: 50051, service: 'ü & =' } },
  { grpc: { port: 8080, service: '' } },
  { httpGet: { path: '/', port: 'http' } },
  { tcpSocket: { port: 'grpc' } },
  { exec: { command: ['true'] } },
);
const probe = fc
  .tuple(handler, some({ periodSeconds: oneOf(3), timeoutSeconds: oneOf(1), failureThreshold: oneOf(4) }))
  .map(([how, when]) => ({ ...how, ...when }));
const probes = some({ startupProbe: probe, readinessProbe: probe, livenessProbe: probe });
const amounts = some({ cpu: oneOf('20m', '1'), memory: oneOf('32Mi', '256Mi') });
const resources = some({ requests: amounts, limits: amounts });
const key = { name: 'OPENAI_API_KEY', valueFrom: { secretKeyRef: { name: 's', key: 'k', optional: true } } };
const url = { name: 'OPENAI_BASE_URL', value: 'https://llm.example/v1' };
const common = some<unknown>({
  ports: fc.array(port, { maxLength: 3 }),
  env: fc.subarray([key, url, { name: 'A_AGENT_ADDR', value: 'a:1' }, { name: 'OTEL_A', value: '$(B)' }]),
  resources,
  volumeMounts: oneOf(
    [{ name: 'v', mountPath: '/run/outrigger/tls' }],
    [{ name: 'v', mountPath: '/v', readOnly: true }],
  ),
  securityContext: oneOf({ runAsUser: 15_000 }, { privileged: true }, { readOnlyRootFilesystem: true }),
});
const lifecycle = some({
  lifecycle: oneOf<object>(
    { preStop: { sleep: { seconds: 3 } } },
    { preStop: { httpGet: { port: 'grpc' } } },
    {},
  ),
});
const container = (name: string) =>
  fc.tuple(common, probes, lifecycle).map((parts) => Object.assign({ name, image: 'outrigger:1' }, ...parts));
const init = (name: string) =>
  fc.oneof(
    common.map((part) => ({ name, image: 'i', ...part })),
    container(name).map((part) => ({ ...part, restartPolicy: 'Always' })),
  );
const annotations = fc.record({
  'app-port': rarely('50051', 'none', '9'),
  config: oneOf('c', undefined),
  'tls-secret': oneOf('s', undefined),
  'tls-volume': rarely('v'),
  'endpoint-slices': oneOf('true', undefined),
  'port-offset': rarely('1000', '50514'),
  'memory-limit': rarely('256Mi', '1Gi'),
  'memory-request': rarely('64Mi', '1Gi'),
  'cpu-limit': rarely('50m', '2'),
});
const spec = fc
  .record({
    containers: fc.tuple(container('a'), fc.option(container('b'), { nil: undefined })),
    initContainers: fc.tuple(
      fc.option(init('i'), { nil: undefined }),
      fc.option(init('j'), { nil: undefined }),
    ),
    volume: oneOf<object>({ emptyDir: {} }, { secret: { secretName: 's' } }),
    volumeName: rarely('outrigger-tls', 'outrigger-token'),
    less: fc.record({
      resources: fc.oneof(
        { weight: 6, arbitrary: fc.constant(undefined) },
        { weight: 1, arbitrary: resources },
      ),
      os: rarely({ name: 'linux' }, { name: 'windows' }),
      hostNetwork: rarely(true),
    }),
    more: some<unknown>({
      terminationGracePeriodSeconds: oneOf(0, 1, 5, 600),
      restartPolicy: oneOf('Never', 'OnFailure'),
      serviceAccountName: oneOf('mine'),
      serviceAccount: oneOf('mine'),
      automountServiceAccountToken: fc.boolean(),
      securityContext: oneOf({ runAsUser: 1 }, { fsGroup: 5 }, { runAsNonRoot: true }),
      shareProcessNamespace: oneOf(true),
      activeDeadlineSeconds: oneOf(10),
    }),
  })
  .map(({ containers, initContainers, volume, volumeName, less, more }) => ({
    ...less,
    ...more,
    containers: containers.filter((each) => each !== undefined),
    initContainers: initContainers.filter((each) => each !== undefined),
    volumes: [
      { name: 'v', ...volume },
      ...(volumeName === undefined ? [] : [{ name: volumeName, emptyDir: {} }]),
    ],
  }));

/** @param namespace one whose pods the webhook is asked about when they have the label */
export function testAnyPod(namespace: string): void {
  t.test('the API server accepts any valid pod with the sidecar, too', async (t) => {
    const proxyPort = await freePort();
    const proxy = startProcess(t, program, ['proxy', `--port=${proxyPort}`]);
    await waitUntil('the proxy serves', () => proxy.logs().includes('Starting to serve'));
    const create = async (labels: object, given: KubernetesObject) => {
      const path = `/api/v1/namespaces/${namespace}/pods?dryRun=All&fieldValidation=Strict`;
      const pod = {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'any', labels, annotations: given[0] },
        spec: given[1],
      };
      const response = await fetch(`http://127.0.0.1:${proxyPort}${path}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(pod),
      });
      return { isTaken: response.status === 201, answer: (await response.json()) as KubernetesObject };
    };
    const prefixed = annotations.map((given) =>
      Object.fromEntries(Object.entries(given).map(([name, value]) => [`outrigger.dev/${name}`, value])),
    );
    let injected = 0;
    let taken = 0;
    await fc.assert(
      fc.asyncProperty(prefixed, spec, async (...given) => {
        // Fields that are undefined are not there, also not for the generator's own comparison.
        const plain = JSON.parse(JSON.stringify(given));
        fc.pre((await create({}, plain)).isTaken);
        taken++;
        const { isTaken, answer } = await create({ 'outrigger.dev/inject': 'true' }, plain);
        if (!isTaken) throw new Error(answer.message);
        if (sidecarsOf(answer).length > 0) injected++;
      }),
      { numRuns: WANTED, maxSkipsPerRun: 1_000, interruptAfterTimeLimit: 120_000 },
    );
    t.comment(`${injected} of ${taken} pods got a sidecar`);
    t.ok(injected > WANTED / 4, `${injected} of ${taken} pods got a sidecar`);
  });
}
