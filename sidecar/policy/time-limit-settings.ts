/** The settings of time limits. */
import type * as z from 'zod';
import { parseDurationMs } from '../settings/duration.ts';
import { duration } from '../settings/kinds.ts';
import type { SettingsOf } from '../settings/settings-of.ts';

/** The default idle timeout of `StreamProcess`. */
export const STREAM_IDLE_TIMEOUT = '5m';
export const STREAM_IDLE_MS = parseDurationMs(STREAM_IDLE_TIMEOUT)!;

/** The time limits of calls; the inbound side and each cluster have these keys. */
export const timeLimits = {
  timeout: duration('zero')
    .default('60s')
    .describe(
      'The most a call of ProcessTask may take whose caller names no deadline; no other method has one; 0s is off',
    ),
  max_timeout: duration('zero')
    .default('0s')
    .describe("The most a caller's own deadline may be, of any method; 0s leaves it as it is"),
  first_chunk_timeout: duration('zero')
    .default('0s')
    .describe('To the first message of an answer; 0s is off'),
  idle_timeout: duration('zero')
    .nullable()
    .default(null)
    .describe(
      `How long neither side may send anything, from the request on: of every method but ProcessTask when given, 0s is off; by default, which null stands for, ${STREAM_IDLE_TIMEOUT} of StreamProcess only`,
    ),
};

/**
 * The time limits of one side, an inbound listener or an outbound cluster. They apply to callers without a deadline of
 * their own. A caller's deadline stands; only `maxTimeoutMs`, which is off by default, shortens it. `deadline.ts` reads
 * `idleTimeoutMs`, because its default depends on the method.
 */
export type TimeLimits = SettingsOf<z.ZodObject<typeof timeLimits>>;
