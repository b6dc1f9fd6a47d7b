// Streams of one API at a steady rate, directly and through a gateway at the same moments: the added time to the first byte, and
// the gateway's CPU time a request.
import { Agent, request as httpRequest } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ProviderForm } from '../../scripts/harness/llm/forms.ts';
import { cpuMicroseconds } from '../measuring/cpu.ts';
import { percentile } from '../measuring/statistics.ts';

/** A place to ask. */
export interface Target {
  /** `http://HOST:PORT`. */
  readonly origin: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Undefined where nothing is in between. */
  readonly pid: number | undefined;
  /** The API in which it is asked, where that is another one than the provider's. */
  readonly form?: ProviderForm;
}

export interface Steady {
  readonly requests: number;
  readonly addedMedianMs: number;
  /** The 99th percentile through it, less that of the direct requests. */
  readonly addedP99Ms: number;
  readonly cpuMs: number;
}

const PER_SECOND = 40;
const WARM_UP = 200;

/** Why a request failed ends the measurement: a gateway that does not serve the API has no row. */
export async function measureSteady(
  form: ProviderForm,
  direct: Target,
  gateway: Target,
  seconds: number,
): Promise<Steady> {
  const agents = new Map([direct, gateway].map((target) => [target, new Agent({ keepAlive: true })]));
  const both = (): Promise<number[]> =>
    Promise.all([direct, gateway].map((target) => firstByteMs(form, target, agents.get(target)!)));
  for (let at = 0; at < WARM_UP; at++) await both();
  const requests = PER_SECOND * seconds;
  const beganUs = cpuMicroseconds(gateway.pid!);
  const beganMs = performance.now();
  const pending: Promise<number[]>[] = [];
  for (let at = 0; at < requests; at++) {
    const waitMs = beganMs + (at * 1_000) / PER_SECOND - performance.now();
    if (waitMs > 0) await sleep(waitMs);
    pending.push(both());
  }
  const pairs = await Promise.all(pending);
  const cpuMs = (cpuMicroseconds(gateway.pid!) - beganUs) / 1_000 / requests;
  for (const agent of agents.values()) agent.destroy();
  const of = (which: number): number[] => pairs.map((pair) => pair[which]!).sort((a, b) => a - b);
  const [without, through] = [of(0), of(1)];
  return {
    requests,
    addedMedianMs: percentile(through, 0.5) - percentile(without, 0.5),
    addedP99Ms: percentile(through, 0.99) - percentile(without, 0.99),
    cpuMs,
  };
}

function firstByteMs(native: ProviderForm, target: Target, agent: Agent): Promise<number> {
  const { origin, headers, form = native } = target;
  const body = JSON.stringify(form.body('m', true));
  return new Promise((resolve, reject) => {
    const startedMs = performance.now();
    const sent = { 'content-type': 'application/json', ...form.headers, ...headers };
    const url = `${origin}${form.path('m', true)}`;
    const request = httpRequest(url, { method: 'POST', agent, headers: sent }, (response) => {
      let firstMs = 0;
      let text = '';
      response.on('data', (part: Buffer) => {
        if (firstMs === 0) firstMs = performance.now() - startedMs;
        if (text.length < 300) text += part.toString();
      });
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode === 200) resolve(firstMs);
        else reject(new Error(`${response.statusCode}: ${text.slice(0, 300)}`));
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}
