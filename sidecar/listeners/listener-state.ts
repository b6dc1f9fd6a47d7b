/** The states of a listener. */
import type { Arrows } from '../errors/illegal-step.ts';

/**
 *     starting ──it listens──▶ listening ──the drain begins──▶ draining ──it has ended its calls──▶ closed
 *        └─────────────── it closes before it has listened ───────▲
 *
 * The calls on the open connections of a draining listener finish. A listener that moves to another address keeps listening.
 */
export type ListenerState = 'starting' | 'listening' | 'draining' | 'closed';

export const LISTENER_ARROWS: Arrows<ListenerState> = {
  starting: ['listening', 'draining'],
  listening: ['draining'],
  draining: ['closed'],
  closed: [],
};
