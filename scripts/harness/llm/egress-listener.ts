// The LLM listener in this process, with short time limits.
import { TimerWheel } from '../../../sidecar/clock/timer-wheel.ts';
import { WheelDriver } from '../../../sidecar/clock/wheel-driver.ts';
import type { LlmConfig } from '../../../sidecar/config/config.ts';
import { toConfig } from '../../../sidecar/config/config.ts';
import { validate } from '../../../sidecar/config/validate.ts';
import { LlmListener } from '../../../sidecar/listeners/llm.ts';
import type { Lookup } from '../../../sidecar/llm/relay/address-watch.ts';
import type { OwnerCalls } from '../../../sidecar/llm/shared/owner-call.ts';
import type { LlmEvents } from '../../../sidecar/llm/shared/request-observer.ts';
import type { TestClock } from '../test-clock.ts';
import { CLOCKS, MAX_ANSWER_BYTES } from './faults.ts';

export interface TestEgress {
  readonly listener: LlmListener;
  readonly baseUrl: string;
  /** Applies another configuration: the `llm` section as in the file. */
  apply(llm: object): void;
  close(): void;
}

const NO_EVENTS: LlmEvents = { onBreaker() {}, onCooldown() {}, onOutOfCredit() {} };

interface EgressOptions {
  events?: LlmEvents;
  ownerCalls?: OwnerCalls;
  /** Its time passes only when the test advances this clock. */
  testClock?: TestClock;
  /** Finds the addresses of a name, in the place of the system. */
  lookup?: Lookup;
}

export async function startEgress(
  llm: object,
  { events = NO_EVENTS, ownerCalls, testClock, lookup }: EgressOptions = {},
): Promise<TestEgress> {
  const wheel = new TimerWheel();
  const clock = testClock?.now ?? (() => performance.now());
  testClock?.drive(wheel);
  const driver = new WheelDriver(wheel, clock);
  const listener = new LlmListener(settings(llm), {
    wheel,
    clock,
    random: Math.random,
    events,
    ownerCalls,
    lookup,
  });
  const address = await listener.listen('127.0.0.1:0');
  return {
    listener,
    baseUrl: `http://${address}/v1`,
    apply: (changed) => listener.apply(settings(changed)),
    close: () => {
      listener.close();
      driver.stop();
    },
  };
}

function settings(llm: object): LlmConfig {
  const validated = validate({ llm });
  if ('findings' in validated) throw new Error(JSON.stringify(validated.findings));
  return toConfig(validated.file).llm;
}

/** The `llm` section with the default time limits. */
export function defaultSettings(url: string): object {
  return { upstreams: [{ name: 'scripted', url }], limits: { max_answer_bytes: MAX_ANSWER_BYTES } };
}

/** The `llm` section with the time limits of the comparison. */
export function faultSettings(url: string, kind: string | null = null, ca: string | null = null): object {
  return {
    upstreams: [{ name: 'scripted', kind, url, ca }],
    first_byte_timeout: `${CLOCKS.firstByteMs}ms`,
    idle_timeout: `${CLOCKS.idleMs}ms`,
    timeout: `${CLOCKS.plainMs}ms`,
    retry: { max_attempts: CLOCKS.attempts, backoff: { base: '50ms', max: '200ms' } },
    limits: { max_answer_bytes: MAX_ANSWER_BYTES },
  };
}
