/** Declares the settings of the egress: the keys of `llm` in the configuration. */
import * as z from 'zod';
import { listen } from '../../settings/address-kinds.ts';
import {
  dollars,
  duration,
  entryName,
  file,
  flag,
  headerName,
  integer,
  oneOf,
  text,
  url,
} from '../../settings/kinds.ts';
import type { SettingsOf } from '../../settings/settings-of.ts';
import { ADDED_FIELDS } from './addable-fields.ts';
import { requestBreaker } from './breaker-settings.ts';
import { KIND_NAMES, ROUTED_OPERATIONS } from './operation.ts';
import { llmCaller, serviceTls } from './service-settings.ts';

const MANY = 1_000_000;

export const LLM_LISTEN = '127.0.0.1:15002';

/** The upstream that OpenAI's client uses by default. */
export const DEFAULT_PROVIDER = {
  name: 'openai',
  url: 'https://api.openai.com/v1',
  api_key_env: 'OPENAI_API_KEY',
} as const;

const placeLimits = z.strictObject({
  requests_per_minute: integer(0, 1_000_000_000).default(0).describe('0 is none'),
  tokens_per_minute: integer(0, 1_000_000_000)
    .default(0)
    .describe('Input and output together, reserved before a request is sent; 0 is none'),
  concurrent: integer(0, MANY).default(0).describe('Requests at a time; 0 is none'),
  max_waiting: integer(0, MANY)
    .default(1_000)
    .describe('Requests that may wait for these limits, callers in turns; more go elsewhere, or are refused'),
});

/** An entry of `llm.upstreams`. Its URL may hold credentials: `config/redact.ts` removes them for display. */
const llmUpstream = z.strictObject({
  name: entryName().describe('The name in metrics and logs'),
  kind: oneOf(KIND_NAMES)
    .nullable()
    .default(null)
    .describe('What the provider is like: its paths, its key, its errors; null goes by the host of its url'),
  url: url().describe('The base URL of its API'),
  api_version: text('a version such as 2024-10-21', /^[A-Za-z0-9._-]+$/)
    .nullable()
    .default(null)
    .describe(
      "Azure's api-version; with one, requests go to /openai/deployments/NAME, and to /openai/v1 without",
    ),
  api_key_env: text('the name of an environment variable', /^[A-Za-z_][A-Za-z0-9_]*$/)
    .nullable()
    .default(null)
    .describe(
      'The environment variable that holds the key; without one the first upstream gets what the caller sends',
    ),
  api_key_file: file()
    .nullable()
    .default(null)
    .describe('The file that holds the key; it is read again when it changes, and comes before api_key_env'),
  headers: z
    .record(headerName('the name of a header'), text('the value of a header'))
    .default({})
    .describe('Headers for each of its requests, in the place of the same ones of the caller'),
  ca: file()
    .nullable()
    .default(null)
    .describe('The authorities (PEM) that its certificate may have; null is those of the system'),
  http2: flag()
    .default(true)
    .describe('Whether HTTP/2 is offered to a provider with https; it chooses, and false is HTTP/1.1'),
  lacks: z
    .array(text('an operation or a field such as responses or stream_options', /^[A-Za-z_][A-Za-z0-9_]*$/))
    .max(64)
    .nullable()
    .default(null)
    .describe(
      "Operations, and fields of requests, that it can't take: such a request goes elsewhere; null goes by its host",
    ),
  model: text('the name of a model')
    .nullable()
    .default(null)
    .describe('Replaces the model of the request; null leaves it'),
  adds: z
    .array(oneOf(ADDED_FIELDS))
    .nullable()
    .default(null)
    .describe(
      'Fields that budgets and limits may add to its requests, the preferred first; null goes by its host',
    ),
  is_service: flag()
    .default(false)
    .describe('It is an outrigger llm: it learns the task of each request, and what is left of its budget'),
  limits: placeLimits.prefault({}).describe('Of all requests to it; llm.replicas divides them'),
});

/** Failures of one upstream that say nothing of another one. */
const FALLBACK_REASONS = ['unauthorized', 'forbidden', 'not_found', 'context_length'] as const;

/** An entry of `llm.models`. */
const llmModel = z.strictObject({
  match: text('the name of a model, or a pattern such as claude-*').describe(
    'The model that requests name; * stands for any characters',
  ),
  operations: z
    .array(oneOf(ROUTED_OPERATIONS))
    .default([])
    .describe('The operations that it holds for; [] is all of them'),
  use: z
    .array(
      z.strictObject({
        upstream: entryName().describe('The name of an entry of llm.upstreams'),
        model: text('the name of a model')
          .nullable()
          .default(null)
          .describe("The model there, or Azure's deployment; null leaves the request's own"),
        weight: integer(0, MANY)
          .nullable()
          .default(null)
          .describe('Its share of the requests that go there first; null is 0, and none at all is in order'),
      }),
    )
    .min(1)
    .max(64)
    .describe('The chain: a request goes to the first, and to the next one when that fails'),
  fall_back_on: z
    .array(oneOf(FALLBACK_REASONS))
    .default([])
    .describe(
      'Answers that lead on to the next one, beside faults: 401, 403, 404, and a prompt that is too long',
    ),
  limits: placeLimits.prefault({}).describe('Of all requests to its chain; llm.replicas divides them'),
});

/** The keys of `llm`. */
export const llmKeys = {
  listen: listen().default(LLM_LISTEN).describe('OPENAI_BASE_URL of the agent is http://HOST:PORT/v1'),
  upstreams: z
    .array(llmUpstream)
    .min(1)
    .max(64)
    .prefault([{ ...DEFAULT_PROVIDER }])
    .describe('Providers in order of preference; when there are none, OPENAI_BASE_URL names one'),
  models: z
    .array(llmModel)
    .max(1_000)
    .default([])
    .describe(
      'Which models there are, and where they are; the first match wins; [] is any model, at the upstreams in order',
    ),
  prices_file: file()
    .nullable()
    .default(null)
    .describe(
      'Prices of models (YAML), read again when it changes; null is the list that ships, with the day it was made',
    ),
  callers: z
    .array(llmCaller)
    .max(10_000)
    .default([])
    .describe(
      'Who may use the egress as a service, each with a key or a certificate; [] is whoever reaches it',
    ),
  tls: serviceTls.optional().describe('TLS for callers; cleartext when absent'),
  replicas: integer(1, 1_000)
    .default(1)
    .describe(
      'How many of these services run: without bus.url each has this share of the limits and budgets of callers',
    ),
  connect_timeout: duration('zero').default('5s').describe('To a connection, with TLS; 0s is off'),
  first_byte_timeout: duration('zero')
    .default('2m')
    .describe('To the first event with data of a stream; a plain answer has timeout; 0s is off'),
  idle_timeout: duration('zero')
    .default('2m')
    .describe(
      'Between events with data of a stream (comments do not count), or bytes of a large answer; 0s is off',
    ),
  timeout: duration('zero')
    .default('10m')
    .describe(
      'To a whole plain answer, or to the first event of a stream, over all attempts and waits; 0s is off',
    ),
  web_socket_idle_timeout: duration('zero')
    .default('1h')
    .describe('The longest silence of a WebSocket, in both directions; 0s is off'),
  connections: z
    .strictObject({
      max_age: duration('zero')
        .default('10m')
        .describe('After this a connection to a provider takes no more requests; 0s is no limit'),
      dns_refresh: duration('zero')
        .default('30s')
        .describe(
          'How often the name of a provider in use is looked up; new requests leave addresses that it no longer has; 0s is never',
        ),
      ping_after: duration('zero')
        .default('30s')
        .describe('The silence of an HTTP/2 connection with requests after which a PING tests it; 0s is off'),
    })
    .prefault({}),
  retry: z
    .strictObject({
      max_attempts: integer(1, 10)
        .default(3)
        .describe('Attempts at all upstreams together, the first one included; 1 is no retry'),
      max_retry_after: duration('zero')
        .default('60s')
        .describe(
          'The longest Retry-After that a request waits for; above it the request goes elsewhere, or is refused',
        ),
      resend: flag()
        .default(false)
        .describe(
          'Resend a request that was sent and not answered; it may be running, and cost tokens twice',
        ),
      backoff: z
        .strictObject({
          base: duration('positive').default('500ms').describe('Before the first retry at the same upstream'),
          max: duration('positive').default('8s').describe('The longest, before jitter'),
        })
        .prefault({}),
      incomplete_answers: flag()
        .default(false)
        .describe('Also retry a plain answer that broke off or is no JSON; its tokens cost twice'),
    })
    .prefault({}),
  circuit_breaker: requestBreaker.prefault({}),
  limits: z
    .strictObject({
      requests_per_minute: integer(0, 1_000_000_000).default(0).describe('0 is none'),
      tokens_per_minute: integer(0, 1_000_000_000)
        .default(0)
        .describe('Input and output together, reserved before a request is sent; 0 is none'),
      tokens_per_task: integer(0, 1_000_000_000)
        .default(0)
        .describe('The budget of a task that comes without one; 0 is none'),
      usd_per_task: dollars()
        .default(0)
        .describe('The most that the requests of one task may cost, by llm.prices_file; 0 is no limit'),
      default_output_tokens: integer(1, 100_000_000)
        .default(4096)
        .describe('Reserved for a request that names no maximum, and its maximum where a budget holds'),
      max_wait: duration('zero')
        .default('30s')
        .describe('How long a request waits for the limits of a minute, or for memory'),
      max_concurrent_requests: integer(1, MANY).default(1024).describe('More are refused'),
      max_web_sockets: integer(0, MANY)
        .default(256)
        .describe('WebSockets at a time, three quarters of them for one caller; 0 refuses them'),
      max_request_bytes: integer(1024, 268_435_456)
        .default(33_554_432)
        .describe('The largest request; it is held in memory until its answer begins'),
      max_body_memory_bytes: integer(0, 68_719_476_736)
        .default(0)
        .describe(
          "What the bodies of all requests may take; more wait for max_wait; 0 is a quarter of the container's memory, or all above 300 MiB, 256 MiB at most",
        ),
      max_answer_bytes: integer(1024, 2_147_483_647).default(134_217_728).describe('The largest answer'),
    })
    .prefault({}),
  stream_usage: oneOf(['auto', 'always', 'never'])
    .default('auto')
    .describe('Request the usage of streams that would not send it; auto does so where tokens are limited'),
  single_flight: flag()
    .default(false)
    .describe('Identical requests at the same time run once even without an Idempotency-Key'),
  log_bodies: flag()
    .default(false)
    .describe('Write requests and answers to the log; they hold what users say'),
};

export type FallbackReason = (typeof FALLBACK_REASONS)[number];
export type PlaceLimitSettings = SettingsOf<typeof placeLimits>;
export type LlmModelSettings = SettingsOf<typeof llmModel>;
export type LlmUpstreamSettings = SettingsOf<typeof llmUpstream>;
export type LlmSettings = Omit<SettingsOf<z.ZodObject<typeof llmKeys>>, 'listen'>;
export type LlmRetrySettings = LlmSettings['retry'];
export type LlmBreakerSettings = LlmSettings['circuitBreaker'];
export type LlmLimitSettings = LlmSettings['limits'];
