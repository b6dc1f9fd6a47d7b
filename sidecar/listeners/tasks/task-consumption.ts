/** Lets the inbound side run tasks of the bus: connects a consumer with the listener, the app's health and the settings. */
import type { ConsumerEvents } from '../../bus/consumer/consumer-events.ts';
import type { Adopt } from '../../bus/consumer/inner-connection.ts';
import { type ConsumerSettings, TaskConsumer } from '../../bus/consumer/task-consumer.ts';
import type { TaskLog } from '../../bus/log/task-log.ts';
import type { BusMemory } from '../../bus/memory/bus-memory.ts';
import type { Sealer } from '../../bus/message/sealer.ts';
import type { BusSettings } from '../../bus/settings.ts';
import { AllowList } from '../../tls/identity.ts';
import type { GrpcListener } from '../grpc-listener.ts';
import type { GrpcListenerEnvironment } from '../grpc-listener-options.ts';
import type { Inbound } from '../inbound.ts';
import type { InboundSettings } from '../settings.ts';

export interface ConsumptionSettings extends InboundSettings {
  readonly bus: BusSettings;
}

export interface Consumption {
  readonly log: TaskLog;
  readonly sealer: Sealer;
  readonly memory: BusMemory;
  readonly events: ConsumerEvents;
}

/** It takes no task before its `start`. */
export function createConsumer(
  settings: ConsumerSettings,
  { listener, appHealth }: Inbound,
  { wheel, clock, random, instance }: GrpcListenerEnvironment,
  { log, sealer, memory, events }: Consumption,
): TaskConsumer {
  return new TaskConsumer(settings, {
    log,
    sealer,
    memory,
    wheel,
    clock,
    random,
    instance,
    adopt: adoptBy(listener),
    app: appHealth,
    events,
  });
}

export function consumerSettings({ name, version, inbound, bus }: ConsumptionSettings): ConsumerSettings {
  const { agentTypes, places, leaseMs, runTimeoutMs } = bus.consume;
  const allowed = new AllowList(inbound.tls?.allowIdentities ?? []);
  return {
    name,
    version,
    agentTypes,
    places,
    leaseMs,
    runTimeoutMs,
    maxAnswerBytes: bus.results.maxAnswerBytes,
    allows: (publisher) => allowed.empty || (publisher !== '' && allowed.match([publisher]) !== undefined),
  };
}

/**
 * Publishers are callers as those with certificates are. Their own callers are told apart by the digests of their scopes,
 * in place of header fields, which never travel with a task.
 */
function adoptBy(listener: GrpcListener): Adopt {
  return (socket, { identity, scope, edition }) => {
    const isAnybody = identity === '' && scope === '';
    listener.adopt(socket, identity === '' ? undefined : { name: identity, names: [identity] }, {
      // No scope of a direct caller looks like this.
      callerScope: isAnybody ? '' : JSON.stringify({ identity, scope }),
      runScope: JSON.stringify({ identity, scope, edition }),
    });
  };
}
