/** The settings of the bus: where tasks are kept, which ones this sidecar takes, and how much of them is kept. */
import * as z from 'zod';
import {
  age,
  agentType,
  checked,
  duration,
  file,
  flag,
  headerName,
  integer,
  size,
} from '../settings/kinds.ts';
import type { SettingsOf } from '../settings/settings-of.ts';
import { readBusUrl } from './bus-url.ts';
import type { TaskLogSettings } from './log/task-log-settings.ts';

const GIB = 1_073_741_824;

function busUrl() {
  const form = 'a bus such as file:/var/lib/outrigger/tasks.db or nats://nats:4222';
  return checked(z.string(), form, (value) => {
    const read = readBusUrl(value);
    return 'engine' in read ? undefined : read;
  });
}

const consume = z.strictObject({
  agent_types: z
    .array(agentType())
    .max(64)
    .default([])
    .describe('The tasks that the local agent takes from the bus; none takes nothing'),
  places: integer(1, 1_024).default(8).describe('Tasks of the bus that the agent runs at a time'),
  lease: duration('positive')
    .default('15s')
    .describe('How long a run outlives the last sign of its sidecar; then another begins it again'),
  run_timeout: duration('zero')
    .default('0s')
    .describe('The most that one run of a task may take, in place of timeout; 0s is no limit'),
  max_runs: integer(1, 100).default(3).describe('Lost runs after which a task goes to the dead letters'),
  retry_delay: z
    .strictObject({
      base: duration('positive').default('1s').describe('The wait before the run after the first lost one'),
      max: duration('positive').default('60s').describe('The wait doubles with each lost run up to this'),
    })
    .prefault({}),
});

const publish = z.strictObject({
  max_queued_per_agent: integer(1, 10_000_000)
    .default(10_000)
    .describe('Tasks of one agent type that may wait; more are refused'),
  max_queued_per_caller: integer(1, 10_000_000)
    .default(1_000)
    .describe('Tasks of one caller that may wait for one agent type'),
  max_queued_bytes: size(1_048_576, 1_024 * GIB)
    .default('1GiB')
    .describe('What all requests that wait, run or are dead letters may take; more are refused'),
  max_queued_bytes_per_caller: size(65_536, 1_024 * GIB)
    .default('256MiB')
    .describe('What those of one caller may take, over all agent types'),
  max_age: age().default('24h').describe('A task that waits for longer goes to the dead letters'),
});

const results = z.strictObject({
  max_age: age().default('24h').describe('How long the result of a task can be asked for'),
  max_bytes: size(1_048_576, 1_024 * GIB)
    .default('1GiB')
    .describe('What all results may take together; a full store refuses new tasks'),
  max_answer_bytes: size(1_024, GIB)
    .default('10MiB')
    .describe('A task whose answer is larger ends with RESOURCE_EXHAUSTED'),
});

const tls = z.strictObject({
  ca: file()
    .optional()
    .describe('PEM file of the authorities of the servers; by default those of the system'),
  cert: file().optional().describe('PEM file of our certificate, for mutual TLS'),
  key: file().optional().describe('PEM file of its key'),
});

/** `bus`. */
export const bus = z
  .strictObject({
    url: busUrl()
      .nullable()
      .default(null)
      .describe(
        'Where tasks are kept: file:/PATH for this machine, nats://HOST:4222 for several; null is no bus',
      ),
    credentials_file: file()
      .nullable()
      .default(null)
      .describe('The credentials for NATS, as `nsc` writes them'),
    tls: tls.optional().describe('TLS to the NATS servers; cleartext when absent'),
    replicas: integer(1, 5)
      .default(1)
      .describe(
        'Servers of NATS that keep a copy of each stream which this sidecar creates; a file has none',
      ),
    consume: consume.prefault({}),
    publish: publish.prefault({}),
    results: results.prefault({}),
    max_memory_bytes: size(0, 1_024 * GIB)
      .default(0)
      .describe(
        'Memory for answers and requests of tasks on their way; 0 is an eighth of the container, 128MiB at most',
      ),
    carry_headers: z
      .array(headerName('a header name such as x-tenant'))
      .max(64)
      .default([])
      .describe(
        'Header fields that travel with a task although they may hold secrets, as authorization does',
      ),
    trust_publishers: flag()
      .default(false)
      .describe('Believe the identities in tasks although their publishers share credentials, or a file'),
    encrypt_key_file: file()
      .nullable()
      .default(null)
      .describe('A file with keys, one a line: the first seals requests and answers, all of them open'),
    dead_letters: z
      .strictObject({ max_age: age().default('30d').describe('How long a dead letter is kept') })
      .prefault({}),
  })
  .prefault({})
  .describe('Tasks that outlive connections and processes');

export type BusSettings = SettingsOf<typeof bus>;

/** The limits for the log's engine. */
export function taskLogSettings({ consume, publish, results, deadLetters }: BusSettings): TaskLogSettings {
  return {
    leaseMs: consume.leaseMs,
    maxRuns: consume.maxRuns,
    retryDelay: consume.retryDelay,
    maxQueuedPerAgent: publish.maxQueuedPerAgent,
    maxQueuedPerCaller: publish.maxQueuedPerCaller,
    maxQueuedBytes: publish.maxQueuedBytes,
    maxQueuedBytesPerCaller: publish.maxQueuedBytesPerCaller,
    maxAgeMs: publish.maxAgeMs,
    resultsMaxAgeMs: results.maxAgeMs,
    resultsMaxBytes: results.maxBytes,
    deadMaxAgeMs: deadLetters.maxAgeMs,
  };
}
