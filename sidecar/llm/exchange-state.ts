/**
 * Names the states of an exchange:
 *
 *     created ──▶ in_line ◀─▶ choosing ──▶ waiting         over: from every state, with an answer, a refusal,
 *        │                     ▲ │  ▲         │                   or without its caller
 *        └──── no limits ──────┘ │  └─────────┤         `fetching` leads back, too
 *                                ▼            │
 *                            attempting       │
 *                                └────────────┘
 *
 * - `in_line`: it waits for limits of ours, and before an attempt for those of its upstream;
 * - `choosing`: it looks for the upstream of its next attempt, within one call;
 * - `fetching`: its budget is shared by replicas, and this one gets more of it; then it chooses again;
 * - `waiting`: it waits until it may send the next attempt, because the upstream rests or for a back-off;
 * - `attempting`: a provider attempt runs.
 *
 * A wait and an attempt both lead back to `choosing`.
 */
import type { Arrows } from '../errors/illegal-step.ts';

export type ExchangeState =
  | 'created'
  | 'in_line'
  | 'choosing'
  | 'fetching'
  | 'waiting'
  | 'attempting'
  | 'over';

export const EXCHANGE_ARROWS: Arrows<ExchangeState> = {
  created: ['in_line', 'choosing', 'over'],
  in_line: ['choosing', 'over'],
  choosing: ['in_line', 'fetching', 'waiting', 'attempting', 'over'],
  fetching: ['choosing', 'over'],
  waiting: ['choosing', 'over'],
  attempting: ['choosing', 'over'],
  over: [],
};
