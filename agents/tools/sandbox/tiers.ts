/** The tiers of the sandbox, from the weakest to the strongest. */

export const tiers = ['landlock', 'namespaces', 'runtime'] as const;
export type Tier = (typeof tiers)[number];

/** How a run is started. `bare` has the filter and the limits alone, and is only for a container that is a sandbox itself. */
export type Walls = 'namespaces' | 'landlock' | 'bare';

/** Whether a tier is at least as strong as the other. */
export function isAtLeast(tier: Tier | 'none', minimum: Tier): boolean {
  return tier !== 'none' && tiers.indexOf(tier) >= tiers.indexOf(minimum);
}
