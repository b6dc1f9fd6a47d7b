// caller → its proxy → (the proxy beside each replica → replica), each a process.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Behaviour } from './behaviour.ts';
import { Caller } from './calls.ts';
import { Pod } from './pod.ts';
import { type Owner, type ProxyKind, type ProxySettings, type RunningProxy, SETTINGS } from './proxy.ts';
import type { Run } from './run-record.ts';

export interface MeshOptions {
  readonly pods?: number;
  /** Of the caller's proxy. */
  readonly settings?: Partial<ProxySettings>;
  /** Of every replica from the start. */
  readonly behaviour?: Partial<Behaviour>;
}

export interface Mesh {
  readonly owner: Owner;
  readonly settings: ProxySettings;
  /** The caller's own proxy, which has seen nothing yet but some calls that were answered. */
  readonly front: RunningProxy;
  readonly pods: readonly Pod[];
  readonly caller: Caller;
  /** Everything that ran at any replica; `travelMs` as `readRuns` takes it. */
  runs(travelMs?: number): Run[];
}

export function temporaryFolder(owner: Owner): string {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-faults-'));
  owner.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/**
 * The pods of one kind of proxy. Scenarios share them, for processes are what takes time here; the caller's proxy,
 * which keeps the ejections, budgets and breakers, is new for each.
 */
export class Fleet {
  readonly kind: ProxyKind;
  readonly #owner: Owner;
  readonly #folder: string;
  readonly #pods: Pod[] = [];

  constructor(owner: Owner, kind: ProxyKind) {
    this.#owner = owner;
    this.kind = kind;
    this.#folder = temporaryFolder(owner);
  }

  /** Pods as good as new: what a scenario broke is started again. */
  async #take(count: number, behaviour: Partial<Behaviour>): Promise<Pod[]> {
    const missing = Array.from({ length: Math.max(0, count - this.#pods.length) }, (_, index) => index);
    const started = missing.map((index) =>
      Pod.start(this.#owner, this.kind, SETTINGS, {
        name: `replica-${this.#pods.length + index + 1}`,
        folder: this.#folder,
      }),
    );
    const pods = this.#pods.slice(0, count);
    await Promise.all(pods.map((pod) => pod.renew()));
    this.#pods.push(...(await Promise.all(started)));
    const taken = this.#pods.slice(0, count);
    await Promise.all(taken.map((pod) => pod.behave(behaviour)));
    return taken;
  }

  /** @param owner ends the caller's part of it */
  async mesh(
    owner: Owner,
    { pods: count = 3, settings: changes = {}, behaviour = {} }: MeshOptions = {},
  ): Promise<Mesh> {
    const pods = await this.#take(count, behaviour);
    const endpoints = pods.map(({ address }) => address);
    return callerMesh(owner, this.kind, pods, { ...SETTINGS, ...changes, name: 'caller', endpoints });
  }
}

/**
 * A caller with a proxy of its own before these pods.
 *
 * @param warmUp makes calls first, so that connections are there and every pod has answered
 */
export async function callerMesh(
  owner: Owner,
  kind: ProxyKind,
  pods: readonly Pod[],
  settings: ProxySettings,
  { warmUp = true }: { warmUp?: boolean } = {},
): Promise<Mesh> {
  const front = await kind.start(owner, settings);
  const caller = new Caller(owner, front.outboundPort);
  const first = Array.from({ length: warmUp ? 4 * pods.length : 0 }, () =>
    caller.call({ timeoutMs: 60_000 }),
  );
  await Promise.all(first.map(({ ended }) => ended));
  return {
    owner,
    settings,
    front,
    pods,
    caller,
    runs: (travelMs) => pods.flatMap((pod) => pod.readRuns(travelMs)),
  };
}
