/** The settings of the queue for calls, and of the rate of each caller. */
import * as z from 'zod';
import { duration, integer } from '../settings/kinds.ts';
import type { SettingsOf } from '../settings/settings-of.ts';

const MANY = 1_000_000;

/** `inbound.queue`. */
export const queue = z.strictObject({
  // With as many as may run, none waits for more than about one service time.
  max_calls: integer(0, MANY).default(0).describe('Calls that may wait for a place; 0 is no queue'),
  // Callers of agents wait for seconds anyway, and browsers for not much longer.
  max_wait: duration('positive').default('5s').describe('The longest wait that a call is let in for'),
});

/** `inbound.rate_limit`. */
export const rateLimit = z.strictObject({
  calls_per_second: integer(0, MANY).default(0).describe('Calls of one caller a second; 0 is no limit'),
  burst: integer(1, MANY).default(10).describe('Calls at once after a silence'),
});

/** An entry of `inbound.agent_types`. */
export const agentTypePlaces = z.strictObject({
  max_concurrent_calls: integer(1, MANY)
    .default(1024)
    .describe('Calls of this agent that may run at a time, beside those of the others'),
  queue: queue.prefault({}).describe('Queue of its calls above that'),
});

export type QueueSettings = SettingsOf<typeof queue>;
export type RateLimitSettings = SettingsOf<typeof rateLimit>;
