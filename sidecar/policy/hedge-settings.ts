/** The settings of hedging. */
import * as z from 'zod';
import { duration, integer } from '../settings/kinds.ts';
import type { SettingsOf } from '../settings/settings-of.ts';

/** `hedge` of a cluster. */
export const hedge = z.strictObject({
  delay: duration('zero')
    .default('0s')
    .describe('When to send a second attempt beside a slow one; 0s is off'),
  // With 95, one call in twenty is hedged: a quarter of the default budget. Never before `delay`.
  percentile: integer(0, 100)
    .default(0)
    .describe('Send it when an attempt takes longer than this share of the answers did; 0 is off'),
  // One: a third answer is rarely faster than two, and always has a cost.
  max_extra: integer(1, 5).default(1).describe('Extra attempts; idempotent methods only'),
});

export type HedgeSettings = SettingsOf<typeof hedge>;
