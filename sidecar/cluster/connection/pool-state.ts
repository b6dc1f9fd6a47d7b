/** The states of the connections to one endpoint. */
import type { Arrows } from '../../errors/illegal-step.ts';

/**
 *     idle ──first call──▶ connecting ──SETTINGS came──▶ ready ──last connection closed──▶ idle
 *                               │                        ▲  │ it closed unused, or the endpoint lost all streams
 *                               │ refused, timed out     │  ▼
 *                               └──────────────▶ backingOff     (1 s × 1.6 up to 120 s, jitter 0.2)
 *     any ──close()──▶ closed
 *
 * A try that the end of the back-off starts stays in `backingOff` until it succeeds: the balancer picks no such endpoint.
 * The cluster's new way to connect ends a back-off (`idle`). A socket that can't be created fails in `idle`. A peer may take
 * back all streams and allow some again: then `ready` goes to `connecting` or `idle`, and back.
 */
export const PoolState = {
  idle: 'idle',
  connecting: 'connecting',
  ready: 'ready',
  backingOff: 'backingOff',
  closed: 'closed',
} as const;
export type PoolState = (typeof PoolState)[keyof typeof PoolState];

export const POOL_ARROWS: Arrows<PoolState> = {
  idle: ['connecting', 'ready', 'backingOff', 'closed'],
  connecting: ['ready', 'backingOff', 'closed'],
  ready: ['idle', 'connecting', 'backingOff', 'closed'],
  backingOff: ['ready', 'idle', 'closed'],
  closed: [],
};
