/**
 * Names the states of a tunnel:
 *
 *     connecting ──▶ waiting ──101──▶ open ──one side ends, or drain──▶ closing        over: from every state
 *        ▲  ▲ │         │  │
 *        │  └─┘         │  └──another answer──▶ refused
 *        └──the next upstream
 *
 * - `connecting`: a connection to an upstream is being made;
 * - `waiting`: the upstream has the handshake, and has not answered;
 * - `refused`: the upstream gave another answer than 101, which passes to the caller;
 * - `open`: bytes pass both ways;
 * - `closing`: both sides end soon.
 */
import type { Arrows } from '../../errors/illegal-step.ts';

export type TunnelState = 'connecting' | 'waiting' | 'refused' | 'open' | 'closing' | 'over';

export const TUNNEL_ARROWS: Arrows<TunnelState> = {
  connecting: ['connecting', 'waiting', 'over'],
  waiting: ['connecting', 'refused', 'open', 'over'],
  refused: ['over'],
  open: ['closing', 'over'],
  closing: ['over'],
  over: [],
};
