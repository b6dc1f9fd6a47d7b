/** How all containers of a pod reach their model, and what the sidecar gets for it. */
import { type JsonObject, objectsAt, stringAt } from './json.ts';
import { type LlmMove, type ModelAccess, modelAccess, NOTHING_MOVES } from './model-access.ts';
import { left, type Note, shown } from './notes.ts';

export interface ModelPlan {
  /** What the sidecar took over. */
  readonly moved: LlmMove;
  /** What the sidecar's environment gets, the key or the provider. */
  readonly forSidecar: LlmMove;
  readonly accessOf: (container: JsonObject) => ModelAccess;
  readonly notes: readonly Note[];
}

const NONE: ModelAccess = { move: NOTHING_MOVES, passesThrough: false, provider: [], notes: [] };

/** The key of the app's container moves, or else that of the first container with a key. */
export function planModels(
  spec: JsonObject,
  app: JsonObject | undefined,
  variables: readonly JsonObject[],
  namespace: string | undefined,
): ModelPlan {
  const containers = objectsAt(spec, 'containers');
  const accesses = new Map(
    containers.map((container) => [
      container,
      modelAccess(container, variables, namespace, container === app),
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
  return {
    moved,
    forSidecar: moved === NOTHING_MOVES ? { upstreams: undefined, environment: provider } : moved,
    accessOf: (container) => accesses.get(container) ?? NONE,
    notes,
  };
}
