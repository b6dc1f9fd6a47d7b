/** Declares the settings of the circuit breakers of providers and tool servers. */
import * as z from 'zod';
import { duration, integer } from '../../settings/kinds.ts';

const MANY = 1_000_000;

/** `circuit_breaker` of `llm` and of `mcp`. */
export const requestBreaker = z.strictObject({
  failure_percent: integer(0, 100).default(50).describe('Share of failures that opens it; 0 is off'),
  min_calls: integer(1, MANY).default(5).describe('Requests in the window before the share counts'),
  window: duration('positive').default('10s').describe('The window the share is taken over'),
  recovery_timeout: duration('positive').default('30s').describe('From open to the first probe'),
});
