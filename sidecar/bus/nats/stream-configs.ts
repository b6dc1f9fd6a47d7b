/** Says what the streams and consumers of a log on NATS are set to. Pure. */
import {
  AckPolicy,
  type ConsumerConfig,
  DiscardPolicy,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from '@nats-io/jetstream';
import { nanos } from '@nats-io/transport-node';
import type { TaskLogSettings } from '../log/task-log-settings.ts';
import {
  CHUNKS,
  CONSUMERS,
  DEAD,
  encodeToken,
  KEYS,
  laneConsumer,
  laneSubjects,
  queueStream,
  queueSubjects,
  REQUESTS,
  RESULTS,
} from './names.ts';

/** For how long the server knows an id again. The key decides; the window only spares the queue a second message. */
const DUPLICATES_MS = 120_000;
const DAY_MS = 86_400_000;

export type StreamSettings = Partial<StreamConfig> & { readonly name: string };

export function streamConfigs(settings: TaskLogSettings, replicas: number): readonly StreamSettings[] {
  const common = {
    storage: StorageType.File,
    retention: RetentionPolicy.Limits,
    num_replicas: replicas,
    allow_direct: true,
  } as const;
  const longestMs = Math.max(settings.maxAgeMs, settings.resultsMaxAgeMs, settings.deadMaxAgeMs);
  return [
    {
      ...common,
      name: KEYS,
      subjects: ['outrigger.keys.*.*'],
      max_msgs_per_subject: 1,
      allow_msg_ttl: true,
      republish: { src: 'outrigger.keys.*.*', dest: 'outrigger.watch.{{wildcard(1)}}.{{wildcard(2)}}.state' },
    },
    {
      ...common,
      name: CHUNKS,
      subjects: ['outrigger.chunks.*.*.*'],
      max_age: nanos(atLeast(settings.resultsMaxAgeMs)),
      // Submits are refused before; this bounds what tasks that run already may write.
      max_bytes: settings.resultsMaxBytes * 2,
      discard: DiscardPolicy.Old,
      duplicate_window: nanos(duplicatesMs(settings.resultsMaxAgeMs)),
      republish: {
        src: 'outrigger.chunks.*.*.*',
        dest: 'outrigger.watch.{{wildcard(1)}}.{{wildcard(2)}}.chunks',
      },
    },
    {
      ...common,
      name: DEAD,
      subjects: ['outrigger.dead.*.*.*'],
      max_msgs_per_subject: 1,
      max_age: nanos(atLeast(settings.deadMaxAgeMs)),
      duplicate_window: nanos(duplicatesMs(settings.deadMaxAgeMs)),
    },
    {
      ...common,
      name: REQUESTS,
      subjects: ['outrigger.requests.*.*.*'],
      // The end of a task removes its request, and a sweep what a crash has left; the age bounds both.
      max_age: nanos(longestMs * 2 + DAY_MS),
    },
    {
      ...common,
      name: RESULTS,
      subjects: ['outrigger.results.*.*.*'],
      max_age: nanos(atLeast(settings.resultsMaxAgeMs)),
      duplicate_window: nanos(duplicatesMs(settings.resultsMaxAgeMs)),
    },
    {
      ...common,
      name: CONSUMERS,
      subjects: ['outrigger.consumers.*.*', 'outrigger.attending.*'],
      storage: StorageType.Memory,
      max_msgs_per_subject: 1,
      allow_msg_ttl: true,
    },
  ];
}

export function queueConfig(agentType: string, settings: TaskLogSettings, replicas: number): StreamSettings {
  return {
    name: queueStream(agentType),
    subjects: [queueSubjects(agentType)],
    storage: StorageType.File,
    retention: RetentionPolicy.Workqueue,
    num_replicas: replicas,
    allow_direct: true,
    discard: DiscardPolicy.New,
    max_msgs: settings.maxQueuedPerAgent,
    max_msgs_per_subject: settings.maxQueuedPerCaller,
    discard_new_per_subject: true,
    duplicate_window: nanos(duplicatesMs(Math.min(settings.resultsMaxAgeMs, settings.deadMaxAgeMs))),
    republish: {
      src: queueSubjects(agentType),
      dest: `outrigger.wake.${encodeToken(agentType)}.{{wildcard(1)}}`,
      headers_only: true,
    },
  };
}

export function laneConfig(agentType: string, lane: number, settings: TaskLogSettings): ConsumerConfig {
  return {
    durable_name: laneConsumer(lane),
    filter_subject: laneSubjects(agentType, lane),
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(settings.leaseMs),
    // We count runs ourselves: at its own limit the server would keep a task and give it to nobody.
    max_deliver: -1,
    max_ack_pending: -1,
    max_waiting: 4_096,
  } as ConsumerConfig;
}

/** The least age that the server takes for a stream is 100 ms. */
const atLeast = (ms: number): number => Math.max(ms, 1_000);
/** Behind a generation's end its id must be unknown, or the next one of that number would be dropped. */
const duplicatesMs = (keptMs: number): number => Math.max(100, Math.min(DUPLICATES_MS, keptMs / 2));
