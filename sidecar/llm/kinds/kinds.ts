/** Finds the kind of an upstream: the configured one, or by the host of its URL. */
import type { ApiName, KindName } from '../shared/operation.ts';
import { ANTHROPIC } from './anthropic.ts';
import { AZURE } from './azure.ts';
import { COMPATIBLE } from './compatible.ts';
import { GEMINI } from './gemini.ts';
import { OPENAI } from './openai.ts';
import type { ProviderKind } from './traits.ts';

const KINDS: Readonly<Record<KindName, ProviderKind>> = {
  openai: OPENAI,
  azure: AZURE,
  anthropic: ANTHROPIC,
  gemini: GEMINI,
  compatible: COMPATIBLE,
};

/** @param name undefined goes by the host */
export function providerKind(name: KindName | undefined, { hostname, pathname }: URL): ProviderKind {
  if (name !== undefined) return KINDS[name];
  // The path of Gemini's for OpenAI's clients has nothing of its own.
  if (/\/openai\/?$/.test(pathname) && GEMINI.hosts?.test(hostname) === true) return COMPATIBLE;
  return Object.values(KINDS).find(({ hosts }) => hosts?.test(hostname)) ?? COMPATIBLE;
}

/**
 * Returns the APIs for which an upstream is in line. Without a configured kind OpenAI's is among them: such an upstream was
 * named for OpenAI's clients before there were kinds.
 */
export function ownApis(kind: ProviderKind, isNamed: boolean): ReadonlySet<ApiName> {
  return isNamed ? kind.apis : new Set([...kind.apis, 'openai' as const]);
}
