/** The settings of retries. */
import * as z from 'zod';
import { STATUS_NAMES } from '../grpc/status.ts';
import { duration, integer, oneOf, percent, text } from '../settings/kinds.ts';
import type { SettingsOf } from '../settings/settings-of.ts';

/** Every gRPC status that is an error, by name. */
const ERROR_CODES = STATUS_NAMES.filter((name) => name !== 'OK');

const MANY = 1_000_000;

/** `retry.budget` of a cluster. */
const retryBudget = z.strictObject({
  percent: percent().default(20).describe('Retries as a share of the calls in flight'),
  min_concurrent: integer(0, MANY).default(3).describe('Retries that are always allowed at a time'),
});

export type RetryBudgetSettings = SettingsOf<typeof retryBudget>;

/** `retry` of a cluster. */
export const retry = z.strictObject({
  // Three: a second failure is bad luck, a third is an outage.
  max_attempts: integer(1, 10).default(3).describe('Attempts, the first one included; 1 is no retry'),
  // UNAVAILABLE alone: the one code that means "not now". Others may follow work that was done.
  on: z
    .array(oneOf(ERROR_CODES))
    .max(ERROR_CODES.length)
    .default(['UNAVAILABLE'])
    .describe('Status codes that may be tried again'),
  idempotent_methods: z
    .array(text('a method such as /agent.AgentService/ProcessTask', /^\/[A-Za-z0-9_.]+\/[A-Za-z0-9_]+$/))
    .max(1024)
    .default([])
    .describe('Methods that may run twice: /package.Service/Method'),
  per_try_timeout: duration('zero').default('0s').describe('The most one attempt may take; 0s is off'),
  // Envoy's back-off: long enough for a connection to restart, short beside any agent's answer.
  backoff: z
    .strictObject({
      base: duration('positive').default('25ms').describe('The first wait before a retry, before jitter'),
      max: duration('positive').default('250ms').describe('The longest wait before a retry'),
    })
    .prefault({}),
  budget: retryBudget.prefault({}),
  buffer_bytes: integer(0, 16_777_216)
    .default(65_536)
    .describe('Request bytes kept for a retry; a larger request is tried once'),
});

export type AllRetrySettings = SettingsOf<typeof retry>;
/** The part on which `RetryPolicy` bases its decisions. */
export type RetrySettings = Pick<AllRetrySettings, 'maxAttempts' | 'on' | 'idempotentMethods' | 'backoff'>;
