// Pods that are not as they usually are, in a namespace whose pods are injected.
import t from 'tap';
import { apply, get, type KubernetesObject, tryKubectl } from './kubectl.ts';
import { pod, sidecarsOf } from './objects.ts';

export function testOddPods(labelled: string): void {
  t.test('the API server accepts unusual pods after injection', async (t) => {
    const grpc = (port: number, service?: string) => ({
      grpc: service === undefined ? { port } : { port, service },
    });
    const restricted = { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } };
    const odd = pod('odd', labelled, {
      annotations: {
        'outrigger.dev/tls-volume': 'svid',
        'outrigger.dev/endpoint-slices': 'true',
        'outrigger.dev/port-offset': '1000',
      },
      container: {
        startupProbe: grpc(50051),
        readinessProbe: grpc(50051, 'acme.v1.Research & more'),
        livenessProbe: { tcpSocket: { port: 'grpc' } },
      },
    });
    odd.spec.volumes = [{ name: 'svid', csi: { driver: 'csi.spiffe.io', readOnly: true } }];
    odd.spec.initContainers = [
      {
        name: 'cache',
        image: 'cache:1',
        restartPolicy: 'Always',
        startupProbe: grpc(6379),
        securityContext: restricted,
      },
      { name: 'migrate', image: 'migrate:1', securityContext: restricted },
    ];
    odd.spec.containers.push({
      name: 'tools',
      image: 'tools:1',
      ports: [{ name: 'grpc-tools', containerPort: 50052 }],
      livenessProbe: grpc(50052),
      securityContext: restricted,
    });
    const { code, stderr } = await apply(odd);
    t.equal(code, 0, stderr);
    // A port beside the app's that may be gRPC is worth a word; the pod is injected all the same.
    t.match(stderr, /^(Warning: Outrigger: port 50052 \(grpc-tools\)[^\n]*\n)?$/);
    const found = await get('pod', 'odd', '-n', labelled);
    t.equal(sidecarsOf(found).length, 1);
    t.strictSame(
      found.spec.initContainers.map(({ name }: KubernetesObject) => name),
      ['outrigger', 'cache', 'migrate'],
    );
    const [agent, tools] = found.spec.containers;
    t.match(agent.readinessProbe.httpGet, {
      path: '/healthz/app?service=acme.v1.Research+%26+more',
      port: 16021,
    });
    t.equal(agent.livenessProbe.tcpSocket.port, 50051);
    t.equal(tools.livenessProbe.grpc.port, 50052);
    t.strictSame(
      found.spec.volumes.map(({ name }: KubernetesObject) => name),
      ['svid', 'outrigger-token'],
    );
    // A copy of an injected pod, as people make one to look into it.
    const copy = structuredClone(found);
    copy.metadata = {
      name: 'copy',
      namespace: labelled,
      labels: found.metadata.labels,
      annotations: odd.metadata.annotations,
    };
    delete copy.status;
    t.match(await apply(copy), { code: 0, stderr: '' });
    t.equal(sidecarsOf(await get('pod', 'copy', '-n', labelled)).length, 1, 'never twice');
    const debug = {
      ephemeralContainers: [{ name: 'look', image: 'busybox:1', securityContext: restricted }],
    };
    const patched = await tryKubectl([
      'patch',
      'pod',
      'odd',
      '-n',
      labelled,
      '--subresource=ephemeralcontainers',
      `-p=${JSON.stringify({ spec: debug })}`,
    ]);
    t.equal(patched.code, 0, `kubectl debug works: ${patched.stderr}`);
    const whole = pod('whole', labelled);
    whole.spec.resources = { requests: { cpu: '50m', memory: '64Mi' }, limits: { memory: '256Mi' } };
    t.match(await apply(whole), { code: 0, stderr: '' }, 'resources of the pod as a whole');
    t.equal(sidecarsOf(await get('pod', 'whole', '-n', labelled)).length, 1);
    const huge = pod('huge', labelled);
    huge.spec.containers[0].env = Array.from({ length: 3_000 }, (_, index) => ({
      name: `V${index}`,
      value: 'x'.repeat(300),
    }));
    t.match(await tryKubectl(['create', '-f', '-'], JSON.stringify(huge)), { code: 0, stderr: '' });
    t.equal(sidecarsOf(await get('pod', 'huge', '-n', labelled)).length, 1, 'a megabyte of a pod');
  });
}
