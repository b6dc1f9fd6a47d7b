/** Decides what of an app's access to its model moves to the sidecar, and what the report says of it. */
import { LOOPBACK } from './app-addresses.ts';
import {
  describeSource,
  type EnvSource,
  envSources,
  hasVariable,
  ownVariable,
  unseen,
  variableFrom,
} from './env-sources.ts';
import { at, isObject, type JsonObject, objectAt, objectsAt, stringAt } from './json.ts';
import { did, left, type Note, shown } from './notes.ts';
import { type OtherModels, otherModels } from './other-models.ts';
import { PLACEHOLDER_KEY } from './settings.ts';

/** The parts of the app's environment that move to the sidecar. */
export interface LlmMove {
  /** `llm.upstreams` for the sidecar; undefined keeps its default, or takes `OPENAI_BASE_URL`. */
  readonly upstreams: string | undefined;
  /** Variables of the app that the sidecar receives, including the key. */
  readonly environment: readonly JsonObject[];
}

export const NOTHING_MOVES: LlmMove = { upstreams: undefined, environment: [] };

/** How one container reaches its model. */
export interface ModelAccess {
  /** The key and the provider, for the sidecar; {@link NOTHING_MOVES} where the key stays. */
  readonly move: LlmMove;
  /** The container keeps its key, if it has one, and may send its requests through the sidecar. */
  readonly passesThrough: boolean;
  /** Where the sidecar finds the provider of requests that pass through; empty for the default. */
  readonly provider: readonly JsonObject[];
  /** Its requests to providers other than OpenAI. */
  readonly others: OtherModels;
  readonly notes: readonly Note[];
}

const KEY = 'OPENAI_API_KEY';
const URL = 'OPENAI_BASE_URL';
/** A name of a Secret or a config map that tells of a model's provider. */
const LIKELY_SOURCE = /openai|llm|gpt|genai|(^|[-.])(ai|model|models|provider)([-.]|$)/i;
/** Clients of these providers do not read OPENAI_BASE_URL. `other-models.ts` has those whose API the sidecar speaks. */
const OTHER_KEYS = /^(MISTRAL_API_KEY|COHERE_API_KEY|GROQ_API_KEY)$/;
/** Its clients refuse OPENAI_BASE_URL beside their own address. */
const AZURE = /^AZURE_OPENAI_/;

/**
 * @param variables the config maps and Secrets of the input, for `envFrom`
 * @param isAgent whether this container serves the app's port
 * @param hasConfig the pod names its own configuration
 */
export function modelAccess(
  container: JsonObject,
  variables: readonly JsonObject[],
  namespace: string | undefined,
  isAgent: boolean,
  hasConfig: boolean,
): ModelAccess {
  const sources = envSources(container, variables, namespace);
  const name = shown(stringAt(container, 'name') ?? '');
  const move = moveOf(container, sources);
  const others = otherModels(container, sources, name, hasConfig);
  const notes = [...otherProviders(container, sources, name), ...others.notes];
  if (move !== NOTHING_MOVES) {
    const text = `${KEY} of the container ${name} moves to the sidecar, and its model requests go through there`;
    return { move, passesThrough: false, provider: [], others, notes: [did(text), ...notes] };
  }
  const own = ownVariable(container, KEY);
  if (own !== undefined) {
    const because =
      stringAt(own, 'value') === PLACEHOLDER_KEY
        ? []
        : [
            left(
              `${KEY} stays with the container ${name}: its value or ${URL} can't move as it is written; write both as values or valueFrom without references to other variables`,
            ),
          ];
    return { move, passesThrough: false, provider: [], others, notes: [...because, ...notes] };
  }
  return { move, others, ...passing(container, sources, name, isAgent, notes) };
}

/** The app may have a key that injection does not see. */
function passing(
  container: JsonObject,
  sources: readonly EnvSource[],
  name: string,
  isAgent: boolean,
  others: readonly Note[],
): Omit<ModelAccess, 'move' | 'others'> {
  const no = (...notes: Note[]) => ({ passesThrough: false, provider: [], notes: [...notes, ...others] });
  const hidden = unseen(sources);
  const remedy = `to move it, write it in env: ${KEY} with valueFrom.secretKeyRef`;
  if (hasVariable(container, sources, AZURE)) return no();
  if (hidden.length === 0) {
    // Without a key in sight an app may still read one from a file; config maps in sight have no other provider.
    const url = sources.map((source) => variableFrom(source, URL)).findLast((entry) => entry !== undefined);
    if (!isAgent || ownVariable(container, URL) !== undefined) return no();
    const text = `${URL} of the container ${name} leads a client of OpenAI through the sidecar, which passes the app's own key on`;
    return { passesThrough: true, provider: url === undefined ? [] : [url], notes: [did(text), ...others] };
  }
  const [source] = hidden;
  const what = hidden.map(describeSource).join(' and ');
  const isLikely = hidden.some(({ name: of }) => LIKELY_SOURCE.test(of));
  if (!isLikely || hidden.length > 1 || ownVariable(container, URL) !== undefined) {
    if (!isAgent && !isLikely) return no();
    return no(
      left(
        `the container ${name} has variables from ${shown(what)}, which injection does not see: a key of a model in there stays, and requests with it bypass the sidecar; ${remedy}, and ${URL} where the provider is not OpenAI`,
      ),
    );
  }
  const provider = variableFrom(source!, URL);
  return {
    passesThrough: true,
    provider: provider === undefined ? [] : [provider],
    notes: [
      did(
        `${URL} of the container ${name} leads model requests through the sidecar, to the provider that ${shown(what)} names, or OpenAI`,
      ),
      left(
        `a key in ${shown(what)} stays with the container ${name} and passes through the sidecar; ${remedy}`,
      ),
      ...others,
    ],
  };
}

/** The key and the provider's address in a container's environment, for the sidecar. */
function moveOf(container: JsonObject, sources: readonly EnvSource[]): LlmMove {
  const key = variable(container, KEY) ?? seenVariable(container, sources, KEY);
  if (key === undefined || !canMove(key)) return NOTHING_MOVES;
  const url = variable(container, URL);
  const literal = stringAt(url, 'value') ?? '';
  if (url === undefined) return withHiddenProvider(container, sources, key);
  if (LOOPBACK.test(literal)) return { upstreams: undefined, environment: [key] };
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

/** `envFrom` may name the provider: the key must not go to another one. */
function withHiddenProvider(container: JsonObject, sources: readonly EnvSource[], key: JsonObject): LlmMove {
  const urls = sources.map((source) => variableFrom(source, URL)).filter((entry) => entry !== undefined);
  if (ownVariable(container, URL) !== undefined || urls.length === 0)
    return { upstreams: undefined, environment: [key] };
  // The last source that has it counts; of several that only may have it nobody knows which.
  const last = urls.at(-1)!;
  if (urls.length > 1 && mayBeMissing(last)) return NOTHING_MOVES;
  return { upstreams: undefined, environment: [key, last] };
}

/** The variable from the sources in sight, unless one that is not in sight may hide it. */
function seenVariable(
  container: JsonObject,
  sources: readonly EnvSource[],
  name: string,
): JsonObject | undefined {
  if (ownVariable(container, name) !== undefined) return undefined;
  const last = sources.map((source) => variableFrom(source, name)).findLast((entry) => entry !== undefined);
  return last === undefined || mayBeMissing(last) ? undefined : last;
}

function otherProviders(container: JsonObject, sources: readonly EnvSource[], name: string): Note[] {
  const names = objectsAt(container, 'env').map((entry) => stringAt(entry, 'name') ?? '');
  for (const { keys, prefix } of sources) for (const key of keys ?? []) names.push(prefix + key);
  const found = [...new Set(names.filter((each) => OTHER_KEYS.test(each)))];
  if (found.length === 0) return [];
  return [
    left(
      `${found.map(shown).join(', ')} of the container ${name}: requests to this provider bypass the sidecar, unless the app sends them to its address (docs/llm-egress.md)`,
    ),
  ];
}

/** The last variable of a name counts, as in Kubernetes; an empty one counts as absent. */
function variable(container: JsonObject, name: string): JsonObject | undefined {
  const found = ownVariable(container, name);
  return isObject(at(found, 'valueFrom')) || (stringAt(found, 'value') ?? '') !== '' ? found : undefined;
}

function canMove(entry: JsonObject): boolean {
  return !refersToOthers(entry) && stringAt(entry, 'value') !== PLACEHOLDER_KEY;
}

/** Kubernetes expands `$(OTHER)` from the variables of the same container; the sidecar does not have them. */
export function refersToOthers(entry: JsonObject): boolean {
  return /\$\([^)]*\)/.test(stringAt(entry, 'value') ?? '');
}

export function mayBeMissing(entry: JsonObject): boolean {
  const source = objectAt(entry, 'valueFrom');
  return ['secretKeyRef', 'configMapKeyRef'].some((kind) => at(objectAt(source, kind), 'optional') === true);
}
