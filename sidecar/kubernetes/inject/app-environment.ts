import { at, isObject, type JsonObject, objectAt, objectsAt, stringAt } from './json.ts';
import { PLACEHOLDER_KEY, type Ports } from './settings.ts';

/** What moves from the app's environment to the sidecar's. */
export interface LlmMove {
  /** `llm.upstreams` for the sidecar; undefined leaves its default. */
  readonly upstreams: string | undefined;
  /** Variables of the app that the sidecar gets, the key among them. */
  readonly environment: readonly JsonObject[];
}

/** `RESEARCH_AGENT_ADDR`, the gateway's and other callers' way to say where an agent is. */
const AGENT_ADDRESS = /^[A-Z][A-Z0-9_]*_AGENT_ADDR$/;
const LOOPBACK = /^(https?:\/\/)?(127\.|localhost\b|\[::1\])/;

export const NOTHING_MOVES: LlmMove = { upstreams: undefined, environment: [] };

/**
 * The key and the provider's address that a container knows, to be told to the sidecar. A key that comes some other
 * way, by `envFrom` or from a file, is not seen, and then no key moves.
 */
export function llmMoveOf(container: JsonObject): LlmMove {
  const key = variable(container, 'OPENAI_API_KEY');
  const url = variable(container, 'OPENAI_BASE_URL');
  if (key === undefined || !canMove(key)) return NOTHING_MOVES;
  const literal = stringAt(url, 'value') ?? '';
  if (url === undefined || LOOPBACK.test(literal)) return { upstreams: undefined, environment: [key] };
  // One that may be missing would leave the sidecar with `$(OPENAI_BASE_URL)` for an address.
  if (!canMove(url) || mayBeMissing(url)) return NOTHING_MOVES;
  const isReference = isObject(at(url, 'valueFrom'));
  const upstream = {
    name: 'provider',
    url: isReference ? '$(OPENAI_BASE_URL)' : literal,
    api_key_env: 'OPENAI_API_KEY',
  };
  // JSON is YAML, which is how a list is written in a variable.
  return { upstreams: JSON.stringify([upstream]), environment: isReference ? [key, url] : [key] };
}

/**
 * The environment of an app beside a sidecar: agents are called through it, and so is the model when the sidecar
 * holds the key.
 *
 * @param isAgent it is the container that serves the app's port, which is told where the sidecar is
 * @param llm what the sidecar took over from any container of the pod
 * @param ports where the sidecar listens
 */
export function appEnvironment(
  container: JsonObject,
  isAgent: boolean,
  llm: LlmMove,
  ports: Ports,
): JsonObject {
  const outbound = `127.0.0.1:${ports.outbound}`;
  const llmUrl = `http://127.0.0.1:${ports.llm}/v1`;
  const before = at(container, 'env');
  const variables = Array.isArray(before) ? before : [];
  const known = new Set(objectsAt(container, 'env').map((entry) => stringAt(entry, 'name')));
  // A container with another key or provider keeps its own way.
  const sidecarHasKey = llm !== NOTHING_MOVES && JSON.stringify(llmMoveOf(container)) === JSON.stringify(llm);
  const changed = variables.map((entry) => {
    const name = stringAt(entry, 'name') ?? '';
    const value = stringAt(entry, 'value') ?? '';
    if (AGENT_ADDRESS.test(name) && at(entry, 'valueFrom') === undefined && !LOOPBACK.test(value))
      return { name, value: outbound };
    if (sidecarHasKey && name === 'OPENAI_API_KEY') return { name, value: PLACEHOLDER_KEY };
    if (sidecarHasKey && name === 'OPENAI_BASE_URL' && !LOOPBACK.test(value)) return { name, value: llmUrl };
    return entry;
  });
  const add = (name: string, value: string): void => {
    if (!known.has(name)) changed.push({ name, value });
  };
  if (isAgent) add('AGENT_OUTBOUND', outbound);
  // The sidecar passes on the key of an app whose key it has not got. Where the provider may be set by a whole
  // config map or Secret (envFrom), a variable would hide it.
  const fromElsewhere = objectsAt(container, 'envFrom').length > 0;
  if (sidecarHasKey || (isAgent && !fromElsewhere && llm === NOTHING_MOVES && !known.has('OPENAI_API_KEY')))
    add('OPENAI_BASE_URL', llmUrl);
  const untouched =
    changed.length === variables.length && changed.every((entry, index) => entry === variables[index]);
  return untouched ? container : { ...container, env: changed };
}

/** The OTEL_… variables with a value of their own; `OTEL_SERVICE_NAME` names the app and not the sidecar. */
export function otelOf(container: JsonObject): JsonObject[] {
  return objectsAt(container, 'env').filter((entry) => {
    const name = stringAt(entry, 'name') ?? '';
    return name.startsWith('OTEL_') && name !== 'OTEL_SERVICE_NAME' && !refersToOthers(entry);
  });
}

/** The last one of a name holds, as in Kubernetes; one that is empty says nothing. */
function variable(container: JsonObject, name: string): JsonObject | undefined {
  const found = objectsAt(container, 'env').findLast((entry) => entry['name'] === name);
  return isObject(at(found, 'valueFrom')) || (stringAt(found, 'value') ?? '') !== '' ? found : undefined;
}

function canMove(entry: JsonObject): boolean {
  return !refersToOthers(entry) && stringAt(entry, 'value') !== PLACEHOLDER_KEY;
}

/** `$(OTHER)` is put in from the variables of the same container; the sidecar has not got them. */
function refersToOthers(entry: JsonObject): boolean {
  return /\$\([^)]*\)/.test(stringAt(entry, 'value') ?? '');
}

function mayBeMissing(entry: JsonObject): boolean {
  const source = objectAt(entry, 'valueFrom');
  return ['secretKeyRef', 'configMapKeyRef'].some((kind) => at(objectAt(source, kind), 'optional') === true);
}
