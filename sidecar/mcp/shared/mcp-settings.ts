/** Declares the settings of the MCP egress: the keys of `mcp` in the configuration. */
import * as z from 'zod';
import { requestBreaker } from '../../llm/shared/breaker-settings.ts';
import { serviceTls } from '../../llm/shared/service-settings.ts';
import { listen } from '../../settings/address-kinds.ts';
import {
  duration,
  entryName,
  file,
  flag,
  headerName,
  integer,
  size,
  text,
  url,
} from '../../settings/kinds.ts';
import type { SettingsOf } from '../../settings/settings-of.ts';

const MANY = 1_000_000;

const MCP_LISTEN = '127.0.0.1:15003';

/** An entry of `mcp.servers`. Its URL may hold credentials: `config/redact.ts` removes them for display. */
const mcpServer = z.strictObject({
  url: url().describe('The address of its endpoint, such as http://tools:8000/mcp'),
  trust_hints: flag()
    .default(false)
    .describe(
      'Believe its readOnlyHint and idempotentHint: calls of such tools are sent again after a failure',
    ),
  tools: z
    .array(text('the name of a tool, or a pattern such as read_*'))
    .max(1_000)
    .default(['*'])
    .describe('The tools that the agent sees and may call; * stands for any characters'),
  api_key_env: text('the name of an environment variable', /^[A-Za-z_][A-Za-z0-9_]*$/)
    .nullable()
    .default(null)
    .describe('The environment variable that holds the key, which is sent as a bearer token'),
  api_key_file: file()
    .nullable()
    .default(null)
    .describe('The file that holds the key; it is read again when it changes, and comes before api_key_env'),
  headers: z
    .record(headerName('the name of a header'), text('the value of a header'))
    .default({})
    .describe('Headers for each of its requests, in the place of the same ones of the agent'),
  ca: file()
    .nullable()
    .default(null)
    .describe('The authorities (PEM) that its certificate may have; null is those of the system'),
  cert: file()
    .nullable()
    .default(null)
    .describe(
      'PEM file of our certificate, with its chain, for a server that asks for one; read again when it changes',
    ),
  key: file().nullable().default(null).describe('PEM file of its key'),
});

/** The keys of `mcp`. */
export const mcpKeys = {
  listen: listen().default(MCP_LISTEN).describe('The agent reaches a server at http://HOST:PORT/mcp/NAME'),
  tls: serviceTls
    .optional()
    .describe('TLS for callers; cleartext when absent. Beyond this machine client_ca is needed'),
  servers: z
    .record(entryName(), mcpServer)
    .default({})
    .describe('Tool servers that speak MCP over HTTP, by name; without one nothing listens'),
  connect_timeout: duration('zero').default('5s').describe('To a connection, with TLS; 0s is off'),
  first_byte_timeout: duration('zero')
    .default('0s')
    .describe('To the head of an answer; 0s is off, because many servers send it when the tool has ended'),
  idle_timeout: duration('zero')
    .default('10m')
    .describe('The longest silence in the answer to a request; 0s is off'),
  timeout: duration('zero')
    .default('10m')
    .describe('To a whole plain answer, or to the head of a stream, over all attempts; 0s is off'),
  retry: z
    .strictObject({
      max_attempts: integer(1, 10)
        .default(3)
        .describe('The first one included; what may have had an effect is never sent again'),
      backoff: z
        .strictObject({
          base: duration('positive').default('100ms').describe('Before the first retry'),
          max: duration('positive').default('2s').describe('The longest, before jitter'),
        })
        .prefault({}),
    })
    .prefault({}),
  circuit_breaker: requestBreaker.prefault({}),
  limits: z
    .strictObject({
      calls_per_task: integer(0, 1_000_000_000)
        .default(0)
        .describe('How many calls of tools a task may make; 0 is any number'),
      max_concurrent_requests: integer(1, MANY)
        .default(1024)
        .describe('Requests and open streams; more are refused'),
      max_request_bytes: size(1_024, 268_435_456).default('8MiB').describe('The largest request'),
      max_answer_bytes: size(1_024, 268_435_456)
        .default('32MiB')
        .describe('The largest plain answer, and the largest message of a stream'),
    })
    .prefault({}),
};

export type McpServerSettings = SettingsOf<typeof mcpServer>;
export type McpSettings = Omit<SettingsOf<z.ZodObject<typeof mcpKeys>>, 'listen'>;
