/**
 * Finds the chain of a request: the places that it may go to, in order. Built anew with the settings, read for each request.
 *
 *     a rule of `llm.models` names the model     its places that speak the request's API; one drawn by weight comes first
 *     rules, and none names it                   none: the model is unknown
 *     no rules, or a request without a model     the upstreams in order
 */
import { apiOf, traitsOf } from '../kinds/operations.ts';
import { ruleName } from '../limits/place-gates.ts';
import { READ_KEYS, type RequestFacts } from '../request/request-facts.ts';
import type { FallbackReason, LlmModelSettings } from '../shared/llm-settings.ts';
import { isGlob, matcherOf } from '../shared/model-pattern.ts';
import type { Operation } from '../shared/operation.ts';
import { Target } from './target.ts';
import { HOMES, type Home, homeName, speakersOf, type Upstream } from './upstream.ts';

/** Where a request may go, or why it may go nowhere. */
export interface Chain {
  readonly targets: readonly Target[];
  /** Failures that are no fault of the upstream, and lead on to the next place all the same. */
  readonly fallsBackOn: ReadonlySet<FallbackReason>;
  /** Why there is no place; undefined where there is one. */
  readonly problem: RouteProblem | undefined;
  /** The rule whose limits hold, by `ruleName`; '' without one. */
  readonly rule: string;
}

export interface RouteProblem {
  readonly reason: 'no_route' | 'unknown_model';
  /** In words for the caller. */
  readonly message: string;
}

/** The places of a rule for one client; `weights` stands beside `targets`, undefined where none is drawn. */
interface RuleChain extends Chain {
  readonly weights: readonly number[] | undefined;
}

interface Rule {
  readonly settings: LlmModelSettings;
  readonly matches: (model: string) => boolean;
  readonly operations: ReadonlySet<Operation>;
  /** By {@link homeName}. */
  readonly chains: ReadonlyMap<string, RuleChain>;
}

const NONE: ReadonlySet<FallbackReason> = new Set();
/** How many names an answer lists. */
const MAX_NAMES = 50;
/** How many models of callers are remembered with their rules. */
const MAX_FOUND = 1_000;

export class Routes {
  readonly rules: readonly Rule[];
  private readonly inOrder: ReadonlyMap<string, Chain>;
  /** The rules by operation and model: callers repeat a handful of models. */
  private readonly found = new Map<string, Rule | undefined>();
  /** The keys of a request that are looked for: those that policies read, and those that an upstream can't take. */
  readonly readKeys: ReadonlySet<string>;
  /** Some upstream can't take everything. */
  private readonly hasLacks: boolean;
  private readonly random: () => number;

  /** @param random in [0, 1), for places with weights */
  constructor(upstreams: readonly Upstream[], models: readonly LlmModelSettings[], random: () => number) {
    this.random = random;
    this.inOrder = new Map(HOMES.map((home) => [homeName(home), chainInOrder(home, upstreams)]));
    this.rules = models.map((settings) => ruleOf(settings, upstreams));
    const lacks = upstreams.flatMap((upstream) => upstream.lacks);
    this.hasLacks = lacks.length > 0;
    this.readKeys = this.hasLacks ? new Set([...READ_KEYS, ...lacks]) : READ_KEYS;
  }

  /** Returns the chain of a request. */
  of(home: Home, facts: RequestFacts): Chain {
    const chain = this.chainOf(home, facts);
    return this.hasLacks ? withoutLacking(chain, facts) : chain;
  }

  private chainOf(home: Home, { operation, model }: RequestFacts): Chain {
    const name = homeName(home);
    if (this.rules.length === 0 || model === '' || !traitsOf(operation).readsRequest)
      return this.inOrder.get(name)!;
    const rule = this.ruleFor(operation, model);
    if (rule === undefined) return this.unknown(operation, model);
    const chain = rule.chains.get(name)!;
    return chain.weights === undefined ? chain : drawn(chain, chain.weights, this.random());
  }

  private ruleFor(operation: Operation, model: string): Rule | undefined {
    const key = `${operation} ${model}`;
    const known = this.found.get(key);
    if (known !== undefined || this.found.has(key)) return known;
    const rule = this.rules.find(
      ({ matches, operations }) => matches(model) && (operations.size === 0 || operations.has(operation)),
    );
    if (this.found.size >= MAX_FOUND) this.found.clear();
    this.found.set(key, rule);
    return rule;
  }

  private unknown(operation: Operation, model: string): Chain {
    const names = this.rules
      .filter(({ operations }) => operations.size === 0 || operations.has(operation))
      .map(({ settings }) => settings.match);
    const more = names.length > MAX_NAMES ? ', …' : '';
    const message = `there is no model ${JSON.stringify(model)} here; there are ${names.slice(0, MAX_NAMES).join(', ')}${more} (llm.models)`;
    return { targets: [], fallsBackOn: NONE, problem: { reason: 'unknown_model', message }, rule: '' };
  }
}

function chainInOrder(home: Home, upstreams: readonly Upstream[]): Chain {
  const targets = speakersOf(home, upstreams).map((upstream) => new Target(upstream));
  const names = upstreams.map(({ name, kind }) => `${name} (${kind.name})`).join(', ');
  const message = `no upstream speaks ${apiOf(home.api).title}; add one of such a kind to llm.upstreams, which has ${names}`;
  return {
    targets,
    fallsBackOn: NONE,
    problem: targets.length > 0 ? undefined : { reason: 'no_route', message },
    rule: '',
  };
}

function ruleOf(settings: LlmModelSettings, upstreams: readonly Upstream[]): Rule {
  return {
    settings,
    matches: matcherOf(settings.match),
    operations: new Set(settings.operations),
    chains: new Map(HOMES.map((home) => [homeName(home), ruleChain(settings, home, upstreams)])),
  };
}

function ruleChain(settings: LlmModelSettings, { api }: Home, upstreams: readonly Upstream[]): RuleChain {
  const places = settings.use.flatMap(({ upstream: name, model, weight }) => {
    const upstream = upstreams.find((one) => one.name === name);
    const speaks = upstream?.apis.has(api) === true || upstream?.kind.alsoSpeaks.has(api) === true;
    // A rule for one name replaces it: the upstream knows its own.
    const own = model ?? (isGlob(settings.match) ? undefined : upstream?.settings.model);
    return upstream !== undefined && speaks ? [{ target: new Target(upstream, own), weight }] : [];
  });
  const hasWeights = places.some(({ weight }) => weight !== undefined);
  const message = `no upstream of the chain of ${JSON.stringify(settings.match)} speaks ${apiOf(api).title}; it has ${settings.use.map(({ upstream }) => upstream).join(', ')} (llm.models), and nothing is translated`;
  return {
    targets: places.map(({ target }) => target),
    fallsBackOn: new Set(settings.fallBackOn),
    problem: places.length > 0 ? undefined : { reason: 'no_route', message },
    rule: ruleName(settings),
    weights: hasWeights ? places.map(({ weight }) => weight ?? 0) : undefined,
  };
}

/** Puts a place first that is drawn by the weights; the others follow in order. */
function drawn(chain: Chain, weights: readonly number[], random: number): Chain {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let left = random * total;
  const at = weights.findIndex((weight) => {
    left -= weight;
    return weight > 0 && left < 0;
  });
  if (at <= 0) return chain;
  const { targets } = chain;
  return { ...chain, targets: [targets[at]!, ...targets.slice(0, at), ...targets.slice(at + 1)] };
}

/** Leaves out what can't take the operation, or a field of the request. */
function withoutLacking(chain: Chain, { operation, scan }: RequestFacts): Chain {
  if (chain.targets.every(({ upstream }) => upstream.lacks.length === 0)) return chain;
  const lackedBy = ({ upstream }: Target): string | undefined =>
    upstream.lacks.find((what) => what === operation || scan?.fields.has(what) === true);
  const targets = chain.targets.filter((target) => lackedBy(target) === undefined);
  if (targets.length > 0 || chain.targets.length === 0) return { ...chain, targets };
  const what = chain.targets.map((target) => `${target.upstream.name} can't take ${lackedBy(target)}`);
  const message = `no upstream takes this request: ${what.join(', ')} (llm.upstreams[].lacks)`;
  return { ...chain, targets, problem: { reason: 'no_route', message } };
}
