// Scenarios of agents that call agents: caller → A → B → C, each behind its proxy and calling through it.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { waitUntil } from '../wait-until.ts';
import { isOk, type RunningCall } from './calls.ts';
import { callerMesh, type Fleet, type Mesh, temporaryFolder } from './mesh.ts';
import { commonBars, type Scenario } from './one-fault.ts';
import { type OtherApp, Pod } from './pod.ts';
import { type Owner, type ProxySettings, SETTINGS } from './proxy.ts';
import { type Bar, countCalls, failuresOf } from './row.ts';
import { startSilentModel } from './silent-model.ts';

const NAMES = ['A', 'B', 'C'];

/**
 * Starts the pods from A to the leaf; each replica calls the next one through its proxy.
 *
 * @param leafApp a program in the place of the leaf's replica
 */
export async function startChain(
  { kind }: Fleet,
  owner: Owner,
  { leafApp, settings: changes = {} }: { leafApp?: OtherApp; settings?: Partial<ProxySettings> } = {},
): Promise<Mesh> {
  const folder = temporaryFolder(owner);
  const pods: Pod[] = [];
  let endpoints: string[] = [];
  // The leaf first, because its callers need its address.
  for (const name of NAMES.toReversed()) {
    const app = pods.length === 0 && leafApp !== undefined ? { app: leafApp } : {};
    const pod = await Pod.start(
      owner,
      kind,
      { ...SETTINGS, ...changes, endpoints },
      { name, folder, ...app },
    );
    if (endpoints.length > 0) await pod.behave({ serviceMs: 0, nextPort: pod.proxy.outboundPort });
    endpoints = [pod.address];
    pods.unshift(pod);
  }
  const settings = { ...SETTINGS, ...changes, name: 'caller', endpoints };
  // A leaf that is no replica would not answer the calls of the warm-up.
  return callerMesh(owner, kind, pods, settings, { warmUp: leafApp === undefined });
}

/** The attempts that the proxy in front of the leaf makes during an action. */
export async function attemptsAtLeaf({ pods }: Mesh, during: () => Promise<unknown>): Promise<number> {
  const [, before, leaf] = pods as [Pod, Pod, Pod];
  const sent = () => before.proxy.sentTo(leaf.address);
  const from = await sent();
  await during();
  return (await sent()) - from;
}

const STORM_CALLS = 40;

const retryStorm: Scenario = {
  name: 'retry storm: three hops, a dead leaf',
  async run(fleet, owner) {
    const mesh = await startChain(fleet, owner);
    const { caller, pods, settings } = mesh;
    const leaf = pods[2]!;
    const one = () => attemptsAtLeaf(mesh, () => caller.call().ended);
    await leaf.killApp();
    const singleDead = await one();
    await leaf.startApp();
    await waitUntil('the leaf answers again', async () => isOk(await caller.call().ended), { everyMs: 100 });
    await leaf.behave({ fault: 'trailers_only' });
    const singleFailing = await one();
    const single = Math.max(singleDead, singleFailing);
    await sleep(1_500);
    let calls: RunningCall[] = [];
    const storm = await attemptsAtLeaf(mesh, async () => {
      calls = Array.from({ length: STORM_CALLS }, () => caller.call());
      await Promise.all(calls.map(({ ended }) => ended));
    });
    const records = calls.map(({ record }) => record);
    // No call could have succeeded: the leaf fails all of them.
    const counts = { ...countCalls(records, mesh.runs(), settings.timeoutMs), lost: 0 };
    const bars: Bar[] = [
      ...commonBars(counts),
      {
        bar: `one call makes at most ${settings.maxAttempts} attempts at the leaf (${single})`,
        holds: single <= settings.maxAttempts,
      },
      // A fifth more, and three more for each second that the scenario may take.
      {
        bar: `${STORM_CALLS} calls make at most 60 attempts (${storm})`,
        holds: storm <= STORM_CALLS * 1.2 + 12,
      },
    ];
    return {
      fault: this.name,
      ...counts,
      reached: storm,
      note: `one call makes ${singleDead} attempts at a killed leaf, ${singleFailing} at a failing one; ${failuresOf(records)}`,
      bars,
    };
  },
};

const CANCELLED_CALLS = 20;
/** No deadline expires: neither while the agent begins its model request, nor instead of the cancellation. */
const WITHOUT_CLOCKS = { timeoutMs: 600_000, inboundTimeoutMs: 600_000 };

/** The leaf is a real agent here; its model provider accepts requests and never answers. */
const cancellation: Scenario = {
  name: 'a caller that cancels, three hops up',
  async run(fleet, owner) {
    const model = await startSilentModel(owner);
    const agent: OtherApp = {
      program: join(import.meta.dirname, '..', '..', '..', 'agents', 'research', 'agent.ts'),
      env: (listen) => ({
        AGENT_LISTEN: listen,
        OPENAI_BASE_URL: model.url,
        OPENAI_API_KEY: 'none',
        OPENAI_MAX_RETRIES: '0',
      }),
    };
    const mesh = await startChain(fleet, owner, { leafApp: agent, settings: WITHOUT_CLOCKS });
    const calls = Array.from({ length: CANCELLED_CALLS }, (_, index) =>
      mesh.caller.call({ streaming: index % 2 === 0, timeoutMs: 0 }),
    );
    await waitUntil('the model has received all requests', () => model.open === CANCELLED_CALLS);
    const atMs = Date.now();
    for (const call of calls) call.cancel();
    await waitUntil('the agents have cancelled all requests', () => model.open === 0).catch(() => {});
    const tookMs = Date.now() - atMs;
    const left = model.open;
    const records = await Promise.all(calls.map(({ ended }) => ended));
    const counts = countCalls(records, mesh.runs(), mesh.settings.timeoutMs);
    return {
      fault: this.name,
      ...counts,
      // These callers cancelled their calls, so CANCELLED is right.
      failed: 0,
      note: `${CANCELLED_CALLS - left} of ${CANCELLED_CALLS} model requests cancelled, the last after ${tookMs} ms`,
      bars: [
        { bar: `no model request continues for a disconnected caller (${left})`, holds: left === 0 },
        ...commonBars(counts),
      ],
    };
  },
};

export const chainScenarios: readonly Scenario[] = [retryStorm, cancellation];
