/** What a trigger of a ScaledObject asks for: its `metadata`, checked and bounded, because it comes from outside. */
import { nearest } from '../../config/problems.ts';
import { TypedError } from '../../errors/typed-error.ts';
import { parseDurationMs } from '../../settings/duration.ts';
import { isAgentType } from '../../settings/kinds.ts';
import type { ScaledObjectRef } from './messages.ts';

/** Pods whose sidecars are asked for their metrics. */
export interface PodSelection {
  readonly namespace: string;
  /** A label selector, as `kubectl get pods -l` takes it. */
  readonly selector: string;
}

interface Common {
  /** Of the metric, without KEDA's prefix. */
  readonly metricName: string;
  readonly target: number;
}

/** Tasks that wait and run, per replica (AverageValue). */
interface QueueTrigger extends Common {
  readonly metric: 'queue';
  readonly agentType: string;
  /** There is work when there are more tasks than this. */
  readonly activation: number;
  /** Undefined: the provider's limits and idle pods are of no concern. */
  readonly pods: PodSelection | undefined;
}

/** Seconds that 99 of 100 inbound calls stay below (Value). */
interface LatencyTrigger extends Common {
  readonly metric: 'p99';
  readonly windowMs: number;
  readonly pods: PodSelection;
}

export type Trigger = QueueTrigger | LatencyTrigger;

/** The trigger can't be served as it is written. */
export class TriggerError extends TypedError {
  override readonly name = 'TriggerError';
  override readonly source = 'downstream';
  override readonly isSafeToRetry = false;
}

const OWN_KEYS = ['metric', 'agentType', 'target', 'activation', 'podSelector', 'window'];
/** Those that KEDA reads itself, and passes on. */
const KEDA_KEYS = ['scalerAddress', 'enableTLS', 'unsafeSsl', 'caCert', 'tlsClientCert', 'tlsClientKey'];

const MAX_CHARS = 512;
const MAX_TARGET = 1e9;
const DEFAULT_QUEUE_TARGET = '8';
const DEFAULT_WINDOW = '2m';
const WINDOW_MS = { least: 10_000, most: 600_000 };

/** @throws TriggerError, whose message says what to write */
export function readTrigger(ref: ScaledObjectRef, namespaces: readonly string[]): Trigger {
  const namespace = ref.namespace === '' ? namespaces[0]! : ref.namespace;
  if (!namespaces.includes(namespace))
    throw new TriggerError(
      `this scaler serves no ScaledObjects of namespace ${quoted(namespace)}; it serves ${namespaces.join(', ')} (--namespace)`,
    );
  const metadata = new Map<string, string>();
  for (const [written, value] of ref.metadata) {
    // KEDA passes the value of a variable of the target's container under the name as it is written.
    const key = written.replace(/FromEnv$/, '');
    if (!OWN_KEYS.includes(key) && !KEDA_KEYS.includes(key)) {
      const close = nearest(key, OWN_KEYS);
      throw new TriggerError(
        `metadata.${quoted(key)} is unknown; ${close === undefined ? `there are ${OWN_KEYS.join(', ')}` : `did you mean ${close}?`}`,
      );
    }
    if (value.length > MAX_CHARS && OWN_KEYS.includes(key))
      throw new TriggerError(`metadata.${key} has more than ${MAX_CHARS} characters; shorten it`);
    metadata.set(key, value);
  }
  const metric = metadata.get('metric') ?? 'queue';
  if (metric === 'queue') return queueTrigger(metadata, namespace);
  if (metric === 'p99') return latencyTrigger(metadata, namespace);
  throw new TriggerError(`metadata.metric is ${quoted(metric)}; there are queue and p99`);
}

function queueTrigger(metadata: ReadonlyMap<string, string>, namespace: string): QueueTrigger {
  const agentType = metadata.get('agentType') ?? '';
  if (agentType === '')
    throw new TriggerError('metadata.agentType is missing; name the agent type whose tasks count');
  if (!isAgentType(agentType))
    throw new TriggerError(
      `metadata.agentType is ${quoted(agentType)}; an agent type has at most 63 letters, digits, ".", "_" and "-", as bus.consume.agent_types has it`,
    );
  if (metadata.has('window')) throw new TriggerError('metadata.window is for the metric p99; leave it out');
  const target = numberOf(
    'target',
    metadata.get('target') ?? DEFAULT_QUEUE_TARGET,
    'the number of tasks that one replica should have',
  );
  const selector = metadata.get('podSelector') ?? '';
  return {
    metric: 'queue',
    metricName: 'outrigger-queue',
    agentType,
    target,
    activation: activationOf(metadata.get('activation') ?? '0'),
    pods: selector === '' ? undefined : { namespace, selector: checked(selector) },
  };
}

function latencyTrigger(metadata: ReadonlyMap<string, string>, namespace: string): LatencyTrigger {
  for (const key of ['agentType', 'activation'])
    if (metadata.has(key)) throw new TriggerError(`metadata.${key} is for the metric queue; leave it out`);
  const selector = metadata.get('podSelector') ?? '';
  if (selector === '')
    throw new TriggerError(
      'metadata.podSelector is missing; give the labels of the agent, such as app.kubernetes.io/name=research-agent',
    );
  const windowMs = parseDurationMs(metadata.get('window') ?? DEFAULT_WINDOW);
  if (windowMs === undefined || windowMs < WINDOW_MS.least || windowMs > WINDOW_MS.most)
    throw new TriggerError('metadata.window takes a length of time from 10s to 10m, such as 2m');
  const written = metadata.get('target') ?? '';
  const durationMs = parseDurationMs(written);
  const target = numberOf(
    'target',
    durationMs === undefined ? written : String(durationMs / 1_000),
    'the seconds that 99 of 100 calls should take at most',
  );
  return {
    metric: 'p99',
    metricName: 'outrigger-p99',
    target,
    windowMs,
    pods: { namespace, selector: checked(selector) },
  };
}

function numberOf(key: string, written: string, what: string): number {
  const value = /^\d+(\.\d+)?$/.test(written) ? Number(written) : Number.NaN;
  if (value > 0 && value <= MAX_TARGET) return value;
  throw new TriggerError(`metadata.${key} takes ${what}, a number above 0`);
}

function activationOf(written: string): number {
  const value = /^\d+$/.test(written) ? Number(written) : Number.NaN;
  if (value <= MAX_TARGET) return value;
  throw new TriggerError(
    'metadata.activation takes a number of tasks: with more of them the agent is active',
  );
}

/** The API server reads it, as a parameter of a request; here it only has to be one that selects something. */
function checked(selector: string): string {
  if (/^[\w./=!,() -]+$/.test(selector) && /[A-Za-z0-9]/.test(selector)) return selector;
  throw new TriggerError(
    'metadata.podSelector takes a label selector, such as app.kubernetes.io/name=research-agent',
  );
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 64));
}
