/** Finds the chain of a request: the places that it may go to, in order. Built anew with the settings, read for each request. */
import { apiOf } from '../kinds/operations.ts';
import type { RequestFacts } from '../request/request-facts.ts';
import { Target } from './target.ts';
import { HOMES, type Home, homeName, speakersOf, type Upstream } from './upstream.ts';

/** Where a request may go, or why it may go nowhere. */
export interface Chain {
  readonly targets: readonly Target[];
  /** Why there is no place, in words for the caller; '' where there is one. */
  readonly problem: string;
}

export class Routes {
  /** The upstreams in order, for requests that no rule names. */
  private readonly inOrder: ReadonlyMap<string, Chain>;
  /** Some upstream can't take everything. */
  private readonly hasLacks: boolean;

  constructor(upstreams: readonly Upstream[]) {
    this.inOrder = new Map(HOMES.map((home) => [homeName(home), chainOf(home, upstreams)]));
    this.hasLacks = upstreams.some(({ lacks }) => lacks.length > 0);
  }

  /** Returns the chain of a request. */
  of(home: Home, facts: RequestFacts): Chain {
    const chain = this.inOrder.get(homeName(home))!;
    return this.hasLacks ? withoutLacking(chain, facts) : chain;
  }
}

function chainOf(home: Home, upstreams: readonly Upstream[]): Chain {
  const targets = speakersOf(home, upstreams).map((upstream) => new Target(upstream));
  const names = upstreams.map(({ name, kind }) => `${name} (${kind.name})`).join(', ');
  const problem = `no upstream speaks ${apiOf(home.api).title}; add one of such a kind to llm.upstreams, which has ${names}`;
  return { targets, problem: targets.length > 0 ? '' : problem };
}

/** Leaves out what can't take the operation, or a field of the request. */
function withoutLacking(chain: Chain, { operation, scan }: RequestFacts): Chain {
  if (chain.targets.every(({ upstream }) => upstream.lacks.length === 0)) return chain;
  const lackedBy = ({ upstream }: Target): string | undefined =>
    upstream.lacks.find((what) => what === operation || scan?.fields.has(what) === true);
  const targets = chain.targets.filter((target) => lackedBy(target) === undefined);
  if (targets.length > 0 || chain.targets.length === 0) return { ...chain, targets };
  const what = chain.targets
    .map((target) => `${target.upstream.name} can't take ${lackedBy(target)}`)
    .join(', ');
  return { targets, problem: `no upstream takes this request: ${what} (llm.upstreams[].lacks)` };
}
