/** The pods of a workload at the Kubernetes API: which there are, and what their deletion costs. */
import {
  CoreV1Api,
  type KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  type V1Pod,
} from '@kubernetes/client-node';
import { awaitResponse, type Remedies } from '../api/api-call.ts';
import type { PodSelection } from './trigger.ts';

/** A pod that is there and not on its way out. */
export interface Pod {
  readonly uid: string;
  readonly name: string;
  /** '' until it has one. */
  readonly ip: string;
  readonly isReady: boolean;
  /** Of `controller.kubernetes.io/pod-deletion-cost`. */
  readonly cost: string | undefined;
}

export interface Pods {
  /** @throws KubernetesError */
  list(selection: PodSelection): Promise<readonly Pod[]>;
  /** @throws KubernetesError */
  writeCost(namespace: string, pod: Pod, cost: string): Promise<void>;
}

const COST = 'controller.kubernetes.io/pod-deletion-cost';
const PAGE = 500;
/** The pods of one workload; a selector that fits more is a mistake. */
const MAX_PODS = 2_000;
const LIST_MS = 5_000;

const REMEDIES: Remedies = {
  400: 'the API server does not understand the selector (400); check metadata.podSelector',
  403: 'this service account lacks the permission (403); install the Role of k8s/components/scaler or of the chart',
  404: 'it is gone (404)',
};

export function podsOf(config: KubeConfig): Pods {
  const api = config.makeApiClient(CoreV1Api);
  return {
    list: async ({ namespace, selector }) => {
      const found: Pod[] = [];
      for (let next: string | undefined; ; ) {
        const page = await awaitResponse(
          `list the pods ${selector} of ${namespace}`,
          api.listNamespacedPod({
            namespace,
            labelSelector: selector,
            limit: PAGE,
            ...(next === undefined ? {} : { _continue: next }),
          }),
          REMEDIES,
          LIST_MS,
        );
        for (const pod of page.items) if (isThere(pod)) found.push(toPod(pod));
        next = page.metadata?._continue;
        if (next === undefined || next === '' || found.length >= MAX_PODS) return found.slice(0, MAX_PODS);
      }
    },
    writeCost: async (namespace, { name, uid }, cost) => {
      // The uid makes the write fail for another pod that has the name by now.
      const body = { metadata: { uid, annotations: { [COST]: cost } } };
      const options = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
      await awaitResponse(
        `write the deletion cost of pod ${namespace}/${name}`,
        api.patchNamespacedPod({ name, namespace, body }, options),
        REMEDIES,
      );
    },
  };
}

/** As a ReplicaSet counts its replicas. */
function isThere({ metadata, status }: V1Pod): boolean {
  return (
    metadata?.deletionTimestamp === undefined && status?.phase !== 'Succeeded' && status?.phase !== 'Failed'
  );
}

function toPod({ metadata, status }: V1Pod): Pod {
  return {
    uid: metadata?.uid ?? '',
    name: metadata?.name ?? '',
    ip: status?.podIP ?? '',
    isReady: status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') ?? false,
    cost: metadata?.annotations?.[COST],
  };
}
