/** The layouts of `npm start -- --layout NAME`. A further one is a file beside this one, and a line here. */
import { agents } from './agents.ts';
import { capabilities } from './capabilities.ts';
import { domains } from './domains.ts';
import type { Layout } from './layout.ts';

export const layouts: readonly Layout[] = [agents, capabilities, domains];

/** The agent types that a layout's users may name, in its order. */
export function typesOf({ members }: Layout): string[] {
  return [...new Set(members.flatMap(({ types }) => types))];
}
