// The pods and Deployments that the cluster suite creates, and what it looks for in those that came of them.
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { apply, get, type KubernetesObject, kubectl } from './kubectl.ts';

export function pod(name: string, namespace: string, more: KubernetesObject = {}): KubernetesObject {
  const restricted = { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels: more.labels ?? {}, annotations: more.annotations ?? {} },
    spec: {
      securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'agent',
          image: 'agent:1',
          ports: [{ name: 'grpc', containerPort: 50051 }],
          readinessProbe: { grpc: { port: 50051 } },
          securityContext: restricted,
          ...more.container,
        },
      ],
    },
  };
}

export function sidecarsOf(found: KubernetesObject): KubernetesObject[] {
  return (found.spec.initContainers ?? []).filter((each: KubernetesObject) => each.name === 'outrigger');
}

export async function podsOf(app: string, namespace: string): Promise<KubernetesObject[]> {
  const { items } = await get('pods', '-n', namespace, '-l', `app=${app}`);
  return items.filter((each: KubernetesObject) => each.metadata.deletionTimestamp === undefined);
}

export function deployment(name: string, namespace: string, replicas: number): KubernetesObject {
  const { spec } = pod(name, namespace);
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: { metadata: { labels: { app: name } }, spec },
    },
  };
}

/** Creates pods until one is as it should be: API servers hear of a changed configuration a moment later. */
export async function createsPodsUntil(
  namespace: string,
  what: string,
  name: string,
  isRight: (created: KubernetesObject | undefined) => boolean,
): Promise<void> {
  let count = 0;
  await waitUntil(
    what,
    async () => {
      const full = `${name}-${++count}`;
      const { code } = await apply(pod(full, namespace));
      const found = code === 0 ? await get('pod', full, '-n', namespace) : undefined;
      if (code === 0) await kubectl(['delete', 'pod', full, '-n', namespace, '--now', '--wait=false']);
      return isRight(found);
    },
    { everyMs: 250 },
  );
}
