/** The settings of circuit breakers. */
import * as z from 'zod';
import { duration, integer, percent } from '../settings/kinds.ts';
import type { SettingsOf } from '../settings/settings-of.ts';

const MANY = 1_000_000;

/** `circuit_breaker` of a cluster. */
export const circuitBreaker = z.strictObject({
  // Five: an app that fails one call in ten fails five in a row once in 100,000 calls, and five calls find a dead app.
  consecutive_failures: integer(0, MANY)
    .default(5)
    .describe('Failures in a row that open it; 0 turns the rule off'),
  // Half: below that, opening would lose more calls than it saves.
  failure_percent: percent().default(50).describe('Share of failures in the window that opens it; 0 is off'),
  // With thin traffic the window reaches back for them, up to six windows. Among 20 calls an app that fails one in four
  // reaches half by chance in 1.4 % of windows, one in five in 0.3 %; with 5 calls it would be 10 % and 6 %.
  min_calls: integer(1, MANY).default(20).describe('Calls in the window before the share counts'),
  window: duration('positive').default('10s').describe('The window the share is taken over'),
  // For endpoints that answer errors. If endpoints were unreachable, their return closes the circuit earlier.
  recovery_timeout: duration('positive')
    .default('30s')
    .describe('From open to the first probe, unless an endpoint that was away comes back sooner'),
  // One lucky answer must not bring the whole load back.
  half_open_max: integer(1, 1000).default(3).describe('Probes at a time, and successes that close it'),
});

export type CircuitBreakerSettings = SettingsOf<typeof circuitBreaker>;
