/** Finds the kind of an upstream: the configured one, or by the host of its URL. */
import type { KindName } from '../shared/operation.ts';
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
export function providerKind(name: KindName | undefined, hostname: string): ProviderKind {
  if (name !== undefined) return KINDS[name];
  return Object.values(KINDS).find(({ hosts }) => hosts?.test(hostname)) ?? COMPATIBLE;
}
