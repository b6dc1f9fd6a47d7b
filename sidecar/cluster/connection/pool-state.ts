/**
 * The states of the connections to one endpoint.
 *
 *     idle ──first call──▶ connecting ──SETTINGS came──▶ ready ──last connection closed──▶ idle
 *                           ▲      │ refused, timed out
 *                           │      ▼
 *                           └── backingOff    (1 s × 1.6 up to 120 s, jitter 0.2)
 */
export const PoolState = {
  idle: 'idle',
  connecting: 'connecting',
  ready: 'ready',
  backingOff: 'backingOff',
} as const;
export type PoolState = (typeof PoolState)[keyof typeof PoolState];
