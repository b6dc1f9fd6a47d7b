/** How all containers of a pod reach their model, and what the sidecar gets for it. */
import { type JsonObject, objectsAt, stringAt } from './json.ts';
import { type LlmMove, type ModelAccess, mayBeMissing, modelAccess, NOTHING_MOVES } from './model-access.ts';
import { left, type Note, shown } from './notes.ts';
import { bypass, type LedProvider, leads, NO_OTHERS, type OtherModels } from './other-models.ts';

export interface ModelPlan {
  /** What the sidecar took over. */
  readonly moved: LlmMove;
  /** What the sidecar's environment gets, the key or the provider. */
  readonly forSidecar: LlmMove;
  readonly accessOf: (container: JsonObject) => ModelAccess;
  readonly notes: readonly Note[];
}

const NONE: ModelAccess = {
  move: NOTHING_MOVES,
  passesThrough: false,
  provider: [],
  others: NO_OTHERS,
  notes: [],
};

/** The key of the app's container moves, or else that of the first container with a key. */
export function planModels(
  spec: JsonObject,
  app: JsonObject | undefined,
  variables: readonly JsonObject[],
  namespace: string | undefined,
  hasConfig: boolean,
): ModelPlan {
  const containers = objectsAt(spec, 'containers');
  const accesses = new Map(
    containers.map((container) => [
      container,
      modelAccess(container, variables, namespace, container === app, hasConfig),
    ]),
  );
  const ordered = app === undefined ? containers : [app, ...containers.filter((other) => other !== app)];
  const moves = ordered.map((container) => accesses.get(container)!.move);
  const moved = moves.find((move) => move !== NOTHING_MOVES) ?? NOTHING_MOVES;
  const provider = (app && accesses.get(app)?.provider) ?? [];
  const notes = [...accesses].flatMap(([container, { move, notes: own }]) =>
    move === NOTHING_MOVES || JSON.stringify(move) === JSON.stringify(moved)
      ? own
      : [
          left(
            `the container ${shown(stringAt(container, 'name') ?? '')} keeps its own OPENAI_API_KEY: the sidecar has that of another container`,
          ),
        ],
  );
  const forOpenAi = moved === NOTHING_MOVES ? { upstreams: undefined, environment: provider } : moved;
  const others = othersOf(ordered, accesses, forOpenAi);
  return {
    moved,
    forSidecar: withOthers(
      forOpenAi,
      [...others.values()].flatMap(({ led }) => led.map(({ upstream }) => upstream)),
    ),
    accessOf: (container) => {
      const access = accesses.get(container);
      return access === undefined ? NONE : { ...access, others: others.get(container) ?? NO_OTHERS };
    },
    notes: [...notes, ...[...others.values()].flatMap((one) => one.notes)],
  };
}

/** Keeps, for each container, the providers that the sidecar can have: one of each kind. */
function othersOf(
  containers: readonly JsonObject[],
  accesses: ReadonlyMap<JsonObject, ModelAccess>,
  { environment }: LlmMove,
): ReadonlyMap<JsonObject, OtherModels> {
  const url = environment.find((entry) => stringAt(entry, 'name') === 'OPENAI_BASE_URL');
  const hidden = url !== undefined && mayBeMissing(url);
  const taken = new Map<string, string>();
  return new Map(
    containers.map((container) => {
      const name = shown(stringAt(container, 'name') ?? '');
      const led: LedProvider[] = [];
      const notes: Note[] = [];
      for (const one of accesses.get(container)!.others.led) {
        const known = taken.get(one.upstream.name) ?? one.upstream.url;
        if (hidden)
          notes.push(
            bypass(
              name,
              one.variable,
              'the sidecar finds a provider in envFrom, and lists no other beside it',
            ),
          );
        else if (known !== one.upstream.url)
          notes.push(bypass(name, one.variable, 'another container of the pod has another address there'));
        else {
          taken.set(one.upstream.name, known);
          led.push(one);
          notes.push(leads(name, one));
        }
      }
      return [container, { led, notes }];
    }),
  );
}

/** The default of the sidecar, which a list of upstreams replaces. */
const OPENAI = { name: 'openai', url: 'https://api.openai.com/v1' };

/** Adds upstreams to what the sidecar gets. */
function withOthers(
  { upstreams, environment }: LlmMove,
  others: readonly LedProvider['upstream'][],
): LlmMove {
  if (others.length === 0) return { upstreams, environment };
  const has = (name: string) => environment.some((entry) => stringAt(entry, 'name') === name);
  const openai = {
    ...OPENAI,
    ...(has('OPENAI_BASE_URL') ? { url: '$(OPENAI_BASE_URL)' } : {}),
    ...(has('OPENAI_API_KEY') ? { api_key_env: 'OPENAI_API_KEY' } : {}),
  };
  const list = upstreams === undefined ? [openai] : (JSON.parse(upstreams) as JsonObject[]);
  const first = others.filter(({ name }, at) => others.findIndex((one) => one.name === name) === at);
  return { upstreams: JSON.stringify([...list, ...first]), environment };
}
