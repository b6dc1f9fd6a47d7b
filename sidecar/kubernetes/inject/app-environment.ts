/** Changes the environment of the pod's containers: addresses of agents, the model's key and its address. */
import { type AddressPlan, LOOPBACK } from './app-addresses.ts';
import { at, isObject, type JsonObject, objectsAt, stringAt } from './json.ts';
import { type LlmMove, type ModelAccess, NOTHING_MOVES, refersToOthers } from './model-access.ts';
import { PLACEHOLDER_KEY, type Ports } from './settings.ts';

/** What a container's environment gets. */
export interface EnvironmentPlan {
  /** Whether this container serves the app's port; only that one gets the sidecar's address. */
  readonly isAgent: boolean;
  /** How this container reaches its model. */
  readonly model: ModelAccess;
  /** What the sidecar took over, from any container of the pod. */
  readonly moved: LlmMove;
  readonly ports: Ports;
  /** The sidecar has a configuration of its own, which may name tool servers. */
  readonly hasConfig: boolean;
  /** The addresses of other agents that lead through the sidecar. */
  readonly addresses: AddressPlan;
}

/**
 * The environment of an app beside a sidecar: the app calls agents through the sidecar, and also its model, if the
 * sidecar holds the key or passes the app's own key on.
 */
export function appEnvironment(
  container: JsonObject,
  { isAgent, model, moved, ports, hasConfig, addresses }: EnvironmentPlan,
): JsonObject {
  const root = `http://127.0.0.1:${ports.llm}`;
  const llmUrl = `${root}/v1`;
  const leads = new Set(model.others.led.map(({ variable }) => variable));
  const before = at(container, 'env');
  const variables = Array.isArray(before) ? before : [];
  const known = new Set(objectsAt(container, 'env').map((entry) => stringAt(entry, 'name')));
  // A container with another key or provider keeps its own.
  const sidecarHasKey = moved !== NOTHING_MOVES && JSON.stringify(model.move) === JSON.stringify(moved);
  const changed = variables.map((entry) => {
    const name = stringAt(entry, 'name') ?? '';
    const value = stringAt(entry, 'value') ?? '';
    const local = isObject(entry) ? addresses.valueOf(container, name, value) : undefined;
    if (local !== undefined) return { ...(entry as JsonObject), value: local };
    if (leads.has(name)) return { name, value: root };
    if (sidecarHasKey && name === 'OPENAI_API_KEY') return { name, value: PLACEHOLDER_KEY };
    if (sidecarHasKey && name === 'OPENAI_BASE_URL' && !LOOPBACK.test(value)) return { name, value: llmUrl };
    return entry;
  });
  const add = (name: string, value: string): void => {
    if (!known.has(name)) changed.push({ name, value });
  };
  if (isAgent) add('AGENT_OUTBOUND', `127.0.0.1:${ports.outbound}`);
  if (isAgent && hasConfig) add('OUTRIGGER_MCP_URL', `http://127.0.0.1:${ports.mcp}/mcp`);
  // A key of envFrom is hidden by a variable of the same name.
  if (sidecarHasKey) add('OPENAI_API_KEY', PLACEHOLDER_KEY);
  if (sidecarHasKey || (model.passesThrough && moved === NOTHING_MOVES)) add('OPENAI_BASE_URL', llmUrl);
  for (const variable of leads) add(variable, root);
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
