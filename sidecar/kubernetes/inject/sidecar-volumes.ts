/** Builds the volumes and mounts of the sidecar, and finds its place among the init containers. */
import type { PodAnnotations } from './annotations.ts';
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
  /** The entry under the pod's `volumes`, without the name. */
  readonly source: JsonObject;
}

/** About an hour, as the API server grants to every pod; the kubelet renews the token in time. */
const TOKEN_SECONDS = 3_607;

/** The volumes that the pod gets for its sidecar. No other container mounts them. */
export function sidecarVolumes({ config, tlsSecret, endpointSlices }: PodAnnotations): SidecarVolume[] {
  const volumes: SidecarVolume[] = [];
  if (config !== undefined)
    volumes.push({
      name: CONFIG_VOLUME,
      source: { configMap: { name: config, items: [{ key: CONFIG_FILE, path: CONFIG_FILE }] } },
    });
  // The whole Secret, under its own names, because the kubelet swaps a renewed Secret as a whole. Its files are
  // readable for all users, and so for the sidecar's; only the sidecar mounts the volume.
  if (tlsSecret !== undefined)
    volumes.push({ name: TLS_VOLUME, source: { secret: { secretName: tlsSecret } } });
  if (endpointSlices) volumes.push({ name: TOKEN_VOLUME, source: { projected: { sources: TOKEN_SOURCES } } });
  return volumes;
}

/** The sources of an automatic mount, which every container of the pod would get. */
const TOKEN_SOURCES: readonly JsonObject[] = [
  { serviceAccountToken: { expirationSeconds: TOKEN_SECONDS, path: 'token' } },
  { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
  {
    downwardAPI: {
      items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }],
    },
  },
];

/** The mounts of these volumes in the sidecar, plus the pod's volume with certificates. */
export function sidecarMounts({
  config,
  tlsSecret,
  tlsVolume,
  endpointSlices,
}: PodAnnotations): JsonObject[] {
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
 * The place of the sidecar among the init containers: first, but after those that write its certificates. It can't
 * start without certificates, and later init containers wait for it.
 */
export function placeOfSidecar(initContainers: readonly Json[], { tlsVolume }: PodAnnotations): number {
  if (tlsVolume === undefined) return 0;
  return initContainers.findLastIndex((container) => writes(container, tlsVolume)) + 1;
}

/** Why certificates would never arrive: the init container that writes them starts after the sidecar. */
export function lateCertificates(spec: JsonObject, { tlsVolume }: PodAnnotations): string | undefined {
  if (tlsVolume === undefined) return undefined;
  const volume = objectsAt(spec, 'volumes').find((each) => stringAt(each, 'name') === tlsVolume);
  const isEmptyAtFirst = isObject(at(volume, 'emptyDir'));
  if (!isEmptyAtFirst || objectsAt(spec, 'initContainers').some((each) => writes(each, tlsVolume)))
    return undefined;
  return `no init container writes certificates to the volume ${tlsVolume} before the sidecar starts; make the writer an init container with restartPolicy: Always`;
}

function writes(container: Json, volume: string): boolean {
  return objectsAt(container, 'volumeMounts').some(
    (mount) => stringAt(mount, 'name') === volume && at(mount, 'readOnly') !== true,
  );
}
