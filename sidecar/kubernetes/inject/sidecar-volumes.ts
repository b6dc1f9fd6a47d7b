import type { PodWishes } from './annotations.ts';
import { at, isObject, type Json, type JsonObject, objectsAt, stringAt } from './json.ts';
import {
  CONFIG_FILE,
  CONFIG_FOLDER,
  CONFIG_VOLUME,
  TLS_FOLDER,
  TLS_VOLUME,
  TOKEN_FOLDER,
  TOKEN_VOLUME,
} from './settings.ts';

export interface SidecarVolume {
  readonly name: string;
  /** What the pod gets under `volumes`, beside the name. */
  readonly source: JsonObject;
}

/** An hour, as the API server gives to any pod; the kubelet renews it in time. */
const TOKEN_SECONDS = 3_607;

/** The volumes that a pod gets for its sidecar. No other container mounts them. */
export function sidecarVolumes({ config, tlsSecret, endpointSlices }: PodWishes): SidecarVolume[] {
  const volumes: SidecarVolume[] = [];
  if (config !== undefined)
    volumes.push({
      name: CONFIG_VOLUME,
      source: { configMap: { name: config, items: [{ key: CONFIG_FILE, path: CONFIG_FILE }] } },
    });
  // All of it, under the names that it has: a renewed Secret is swapped as a whole. Its files are readable for the
  // sidecar's user because they are for everybody who mounts the volume, and that is the sidecar alone.
  if (tlsSecret !== undefined)
    volumes.push({ name: TLS_VOLUME, source: { secret: { secretName: tlsSecret } } });
  if (endpointSlices) volumes.push({ name: TOKEN_VOLUME, source: { projected: { sources: TOKEN_SOURCES } } });
  return volumes;
}

/** What an automatic mount has, which every container of the pod would get. */
const TOKEN_SOURCES: readonly JsonObject[] = [
  { serviceAccountToken: { expirationSeconds: TOKEN_SECONDS, path: 'token' } },
  { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
  {
    downwardAPI: {
      items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }],
    },
  },
];

/** The same in the sidecar, with the volume of the pod that brings certificates. */
export function sidecarMounts({ config, tlsSecret, tlsVolume, endpointSlices }: PodWishes): JsonObject[] {
  const mounts: JsonObject[] = [];
  const mount = (name: string, mountPath: string): void => {
    mounts.push({ name, mountPath, readOnly: true });
  };
  if (config !== undefined) mount(CONFIG_VOLUME, CONFIG_FOLDER);
  if (tlsSecret !== undefined) mount(TLS_VOLUME, TLS_FOLDER);
  if (tlsVolume !== undefined) mount(tlsVolume, TLS_FOLDER);
  if (endpointSlices) mount(TOKEN_VOLUME, TOKEN_FOLDER);
  return mounts;
}

/**
 * Where among the init containers the sidecar goes: in front, but behind those that write its certificates. It can't
 * start without them, and they would not start before it has.
 */
export function placeOfSidecar(initContainers: readonly Json[], { tlsVolume }: PodWishes): number {
  if (tlsVolume === undefined) return 0;
  return initContainers.findLastIndex((container) => writes(container, tlsVolume)) + 1;
}

/** Why certificates would never come: who writes them starts after the sidecar. */
export function lateCertificates(spec: JsonObject, { tlsVolume }: PodWishes): string | undefined {
  if (tlsVolume === undefined) return undefined;
  const volume = objectsAt(spec, 'volumes').find((each) => stringAt(each, 'name') === tlsVolume);
  const isEmptyAtFirst = isObject(at(volume, 'emptyDir'));
  if (!isEmptyAtFirst || objectsAt(spec, 'initContainers').some((each) => writes(each, tlsVolume)))
    return undefined;
  return `nothing writes certificates to the volume ${tlsVolume} before the sidecar starts; make their writer an init container with restartPolicy: Always`;
}

function writes(container: Json, volume: string): boolean {
  return objectsAt(container, 'volumeMounts').some(
    (mount) => stringAt(mount, 'name') === volume && at(mount, 'readOnly') !== true,
  );
}
