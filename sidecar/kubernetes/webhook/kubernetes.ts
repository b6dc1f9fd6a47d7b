/** The webhook's client of the Kubernetes API: a Secret shares its certificate, and one field publishes its authorities. */

import {
  AdmissionregistrationV1Api,
  CoreV1Api,
  type KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  type V1Secret,
} from '@kubernetes/client-node';
import {
  awaitResponse as awaitApi,
  CONFLICT,
  codeOf,
  KubernetesError,
  loadKubeConfig,
  type Remedies,
} from '../api/api-call.ts';
import type { CertificateMaterial } from './certificate.ts';
import type { CertificateStore, TrustPublisher } from './certificate-keeper.ts';

export { loadKubeConfig };

/** A store in an existing Secret, so that the webhook needs no permission to create one. */
export function secretStore(config: KubeConfig, namespace: string, name: string): CertificateStore {
  const api = config.makeApiClient(CoreV1Api);
  const what = `the Secret ${namespace}/${name}`;
  let read: V1Secret | undefined;
  return {
    read: async () => {
      read = await awaitResponse(`read ${what}`, api.readNamespacedSecret({ namespace, name }));
      const text = (key: string): string => Buffer.from(read?.data?.[key] ?? '', 'base64').toString('utf8');
      const material: CertificateMaterial = {
        ca: text('ca.crt'),
        cert: text('tls.crt'),
        key: text('tls.key'),
      };
      const version = read.metadata?.resourceVersion ?? '';
      return { material: material.cert === '' ? undefined : material, version };
    },
    write: async ({ ca, cert, key }, version) => {
      const base64 = (value: string): string => Buffer.from(value).toString('base64');
      const body: V1Secret = {
        ...read,
        // The version makes the write fail when another replica was faster.
        metadata: { ...read?.metadata, name, namespace, resourceVersion: version },
        data: { ...read?.data, 'ca.crt': base64(ca), 'tls.crt': base64(cert), 'tls.key': base64(key) },
      };
      try {
        await awaitResponse(`write ${what}`, api.replaceNamespacedSecret({ namespace, name, body }));
        return true;
      } catch (error) {
        if (error instanceof KubernetesError && codeOf(error.cause) === CONFLICT) return false;
        throw error;
      }
    },
  };
}

/** Writes the bundle into every webhook of the MutatingWebhookConfiguration that has another one. */
export function webhookConfiguration(config: KubeConfig, name: string): TrustPublisher {
  const api = config.makeApiClient(AdmissionregistrationV1Api);
  const what = `the MutatingWebhookConfiguration ${name}`;
  return {
    publish: async (ca) => {
      const caBundle = Buffer.from(ca).toString('base64');
      const found = await awaitResponse(`read ${what}`, api.readMutatingWebhookConfiguration({ name }));
      const outdated = (found.webhooks ?? []).flatMap(({ clientConfig }, index) =>
        clientConfig.caBundle === caBundle ? [] : [index],
      );
      if (outdated.length === 0) return;
      const body = [
        // Another client may have changed the list since we read it.
        { op: 'test', path: '/metadata/resourceVersion', value: found.metadata?.resourceVersion },
        ...outdated.map((index) => ({
          op: 'add',
          path: `/webhooks/${index}/clientConfig/caBundle`,
          value: caBundle,
        })),
      ];
      const options = setHeaderOptions('Content-Type', PatchStrategy.JsonPatch);
      await awaitResponse(`patch ${what}`, api.patchMutatingWebhookConfiguration({ name, body }, options));
    },
  };
}

const REMEDIES: Remedies = {
  403: 'this service account lacks the permission (403); install the Roles of k8s/overlays/webhook or of the chart',
  404: 'it does not exist (404); k8s/overlays/webhook and the chart create it',
};

function awaitResponse<T>(action: string, response: Promise<T>): Promise<T> {
  return awaitApi(action, response, REMEDIES);
}
