/** Detects Istio's proxies, which use the sidecar's ports: both fit in one pod only if one of them moves. */
import { type JsonObject, objectAt, objectsAt, stringAt } from './json.ts';

const CONTAINER = 'istio-proxy';
const SIDECAR_LABEL = 'sidecar.istio.io/inject';
const AMBIENT_LABEL = 'istio.io/dataplane-mode';

/** Why the sidecar can't have its usual ports in this pod; undefined when Istio does not use them. */
export function istioClash(spec: JsonObject, metadata: JsonObject): string | undefined {
  const claim = claimOf(spec, metadata);
  if (claim === undefined) return undefined;
  return `${claim}, and uses the sidecar's ports; set the pod's labels ${SIDECAR_LABEL}: "false" and ${AMBIENT_LABEL}: none, or its annotation outrigger.dev/port-offset`;
}

function claimOf(spec: JsonObject, metadata: JsonObject): string | undefined {
  const containers = [...objectsAt(spec, 'initContainers'), ...objectsAt(spec, 'containers')];
  if (containers.some((container) => stringAt(container, 'name') === CONTAINER))
    return `the pod has Istio's proxy (the container ${CONTAINER})`;
  const labels = objectAt(metadata, 'labels');
  const requested = labels[SIDECAR_LABEL] ?? objectAt(metadata, 'annotations')[SIDECAR_LABEL];
  if (String(requested) === 'true') return `${SIDECAR_LABEL} requests Istio's proxy`;
  if (labels[AMBIENT_LABEL] === 'ambient') return `${AMBIENT_LABEL} requests Istio's ambient mode`;
  return undefined;
}

/**
 * Disables Istio's injection in the pod. Without an explicit label the pod's namespace would decide, which we do not
 * know here.
 */
export function withoutIstio(labels: JsonObject): JsonObject {
  return { ...labels, ...missing(labels, SIDECAR_LABEL, 'false'), ...missing(labels, AMBIENT_LABEL, 'none') };
}

function missing(labels: JsonObject, name: string, value: string): JsonObject {
  return labels[name] === undefined ? { [name]: value } : {};
}
