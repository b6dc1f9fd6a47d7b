/**
 * Reports waits of which nobody knows whether they are long, because too few answers are known. They are no finding,
 * since a task may take minutes, but they rule out "all is well". Pure.
 */
import type { ProviderFacts } from './providers.ts';
import type { MethodFacts, WaitFacts } from './waits.ts';
import { counted, shortMethod, spanOf } from './words.ts';

/** Shorter waits are not reported. */
const WORTH_MS = 20_000;

export interface UnknownWaits {
  /** Does not change while the situation does not. */
  readonly text: string;
  /** The numbers in words. */
  readonly detail: string;
}

interface Waiting {
  readonly noun: 'call' | 'request';
  readonly what: string;
  readonly waits: WaitFacts;
}

export function unknownWaits(facts: {
  readonly clusters: readonly { readonly name: string; readonly methods: readonly MethodFacts[] }[];
  readonly providers: readonly ProviderFacts[];
}): UnknownWaits | undefined {
  const all = Array.from(waitsOf(facts)).filter(
    ({ waits }) => waits.usual.answers === 0 && waits.longestMs >= WORTH_MS,
  );
  const first = all.sort((one, other) => other.waits.longestMs - one.waits.longestMs)[0];
  if (first === undefined) return undefined;
  const others = all.length === 1 ? '' : `, and of ${counted(all.length - 1, 'other')}`;
  const { waiting, longestMs } = first.waits;
  return {
    text: `Nothing is known to be wrong, but an answer of ${first.what}${others} has been waited for, and too few are known to say how long one takes.`,
    detail: `${counted(waiting, first.noun, 'waits')}, the longest for ${spanOf(longestMs)}`,
  };
}

function* waitsOf({ clusters, providers }: Parameters<typeof unknownWaits>[0]): Generator<Waiting> {
  for (const { name, methods } of clusters)
    for (const { method, waits } of methods)
      yield { noun: 'call', what: `${name} ${shortMethod(method)}`, waits };
  for (const { name, models } of providers)
    for (const { model, waits } of models)
      yield {
        noun: 'request',
        what: `the model provider ${name}${model === '' ? '' : ` (${model})`}`,
        waits,
      };
}
