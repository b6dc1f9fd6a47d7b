/**
 * Names the states of an exchange:
 *
 *     created ──▶ finding ──▶ noting ──▶ attempting        over: from every state, with an answer,
 *        │           │          ▲  ▲          │                  or without its caller
 *        └───────────┴──────────┘  └ waiting ◀┘
 *
 * - `finding`: it asks the journal whether its task has made the call before;
 * - `noting`: it is about to be sent; a call with an effect waits until the journal has a note of it;
 * - `attempting`: an attempt runs;
 * - `waiting`: it waits to be sent again.
 */
import type { Arrows } from '../errors/illegal-step.ts';

export type McpExchangeState = 'created' | 'finding' | 'noting' | 'attempting' | 'waiting' | 'over';

export const MCP_EXCHANGE_ARROWS: Arrows<McpExchangeState> = {
  created: ['finding', 'noting', 'over'],
  finding: ['noting', 'over'],
  noting: ['attempting', 'over'],
  attempting: ['waiting', 'over'],
  waiting: ['noting', 'over'],
  over: [],
};
