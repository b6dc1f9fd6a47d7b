/** Changes the environment of the pod's containers, and moves the model's key to the sidecar. */
import { type AddressPlan, LOOPBACK } from './app-addresses.ts';
import { at, isObject, type JsonObject, objectAt, objectsAt, stringAt } from './json.ts';
import { PLACEHOLDER_KEY, type Ports } from './settings.ts';

/** The parts of the app's environment that move to the sidecar. */
export interface LlmMove {
  /** `llm.upstreams` for the sidecar; undefined keeps its default. */
  readonly upstreams: string | undefined;
  /** Variables of the app that the sidecar receives, including the key. */
  readonly environment: readonly JsonObject[];
}

export const NOTHING_MOVES: LlmMove = { upstreams: undefined, environment: [] };

/**
 * The key and the provider's address in a container's environment, for the sidecar. A key from `envFrom` or a file is
 * invisible here, and then no key moves.
 */
export function llmMoveOf(container: JsonObject): LlmMove {
  const key = variable(container, 'OPENAI_API_KEY');
  const url = variable(container, 'OPENAI_BASE_URL');
  if (key === undefined || !canMove(key)) return NOTHING_MOVES;
  const literal = stringAt(url, 'value') ?? '';
  if (url === undefined || LOOPBACK.test(literal)) return { upstreams: undefined, environment: [key] };
  // A variable that may be missing would give the sidecar the address `$(OPENAI_BASE_URL)`.
  if (!canMove(url) || mayBeMissing(url)) return NOTHING_MOVES;
  const isReference = isObject(at(url, 'valueFrom'));
  const upstream = {
    name: 'provider',
    url: isReference ? '$(OPENAI_BASE_URL)' : literal,
    api_key_env: 'OPENAI_API_KEY',
  };
  // JSON is YAML, the form of a list in a variable.
  return { upstreams: JSON.stringify([upstream]), environment: isReference ? [key, url] : [key] };
}

/**
 * The environment of an app beside a sidecar: the app calls agents through the sidecar, and also its model, if the
 * sidecar holds the key.
 *
 * @param isAgent whether this container serves the app's port; only that one gets the sidecar's address
 * @param llm what the sidecar took over from any container of the pod
 * @param ports the ports of the sidecar
 * @param addresses the addresses of other agents that lead through the sidecar
 */
export function appEnvironment(
  container: JsonObject,
  isAgent: boolean,
  llm: LlmMove,
  ports: Ports,
  addresses: AddressPlan,
): JsonObject {
  const outbound = `127.0.0.1:${ports.outbound}`;
  const llmUrl = `http://127.0.0.1:${ports.llm}/v1`;
  const before = at(container, 'env');
  const variables = Array.isArray(before) ? before : [];
  const known = new Set(objectsAt(container, 'env').map((entry) => stringAt(entry, 'name')));
  // A container with another key or provider keeps its own.
  const sidecarHasKey = llm !== NOTHING_MOVES && JSON.stringify(llmMoveOf(container)) === JSON.stringify(llm);
  const changed = variables.map((entry) => {
    const name = stringAt(entry, 'name') ?? '';
    const value = stringAt(entry, 'value') ?? '';
    const local = isObject(entry) ? addresses.valueOf(container, name, value) : undefined;
    if (local !== undefined) return { ...(entry as JsonObject), value: local };
    if (sidecarHasKey && name === 'OPENAI_API_KEY') return { name, value: PLACEHOLDER_KEY };
    if (sidecarHasKey && name === 'OPENAI_BASE_URL' && !LOOPBACK.test(value)) return { name, value: llmUrl };
    return entry;
  });
  const add = (name: string, value: string): void => {
    if (!known.has(name)) changed.push({ name, value });
  };
  if (isAgent) add('AGENT_OUTBOUND', outbound);
  // The sidecar passes through the key of an app whose key it does not hold. If a whole config map or Secret (envFrom)
  // may set the provider, a variable would hide it.
  const fromElsewhere = objectsAt(container, 'envFrom').length > 0;
  if (sidecarHasKey || (isAgent && !fromElsewhere && llm === NOTHING_MOVES && !known.has('OPENAI_API_KEY')))
    add('OPENAI_BASE_URL', llmUrl);
  const untouched =
    changed.length === variables.length && changed.every((entry, index) => entry === variables[index]);
  return untouched ? container : { ...container, env: changed };
}

/**
 * The OTEL_… variables that refer to no other variable. `OTEL_SERVICE_NAME` is not among them, because it names the
 * app.
 */
export function otelOf(container: JsonObject): JsonObject[] {
  return objectsAt(container, 'env').filter((entry) => {
    const name = stringAt(entry, 'name') ?? '';
    return name.startsWith('OTEL_') && name !== 'OTEL_SERVICE_NAME' && !refersToOthers(entry);
  });
}

/** The last variable of a name counts, as in Kubernetes; an empty one counts as absent. */
function variable(container: JsonObject, name: string): JsonObject | undefined {
  const found = objectsAt(container, 'env').findLast((entry) => entry['name'] === name);
  return isObject(at(found, 'valueFrom')) || (stringAt(found, 'value') ?? '') !== '' ? found : undefined;
}

function canMove(entry: JsonObject): boolean {
  return !refersToOthers(entry) && stringAt(entry, 'value') !== PLACEHOLDER_KEY;
}

/** Kubernetes expands `$(OTHER)` from the variables of the same container; the sidecar does not have them. */
function refersToOthers(entry: JsonObject): boolean {
  return /\$\([^)]*\)/.test(stringAt(entry, 'value') ?? '');
}

function mayBeMissing(entry: JsonObject): boolean {
  const source = objectAt(entry, 'valueFrom');
  return ['secretKeyRef', 'configMapKeyRef'].some((kind) => at(objectAt(source, kind), 'optional') === true);
}
