// The mesh of a scenario: caller → its proxy → (the proxy beside each replica → replica), each a process.
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
  /** The settings of the caller's proxy. */
  readonly settings?: Partial<ProxySettings>;
  /** The initial behaviour of every replica. */
  readonly behaviour?: Partial<Behaviour>;
}

export interface Mesh {
  readonly owner: Owner;
  readonly settings: ProxySettings;
  /** The caller's own proxy, without any state but some successful calls. */
  readonly front: RunningProxy;
  readonly pods: readonly Pod[];
  readonly caller: Caller;
  /** All runs at any replica; `travelMs` as in `readRuns`. */
  runs(travelMs?: number): Run[];
}

export function temporaryFolder(owner: Owner): string {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-faults-'));
  owner.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/**
 * The pods of one kind of proxy. Scenarios share them, because processes take most of the time; each scenario gets a
 * new proxy for the caller, which holds the ejections, budgets and circuits.
 */
export class Fleet {
  readonly kind: ProxyKind;
  private readonly owner: Owner;
  private readonly folder: string;
  private readonly pods: Pod[] = [];

  constructor(owner: Owner, kind: ProxyKind) {
    this.owner = owner;
    this.kind = kind;
    this.folder = temporaryFolder(owner);
  }

  /** Returns renewed pods: processes that a scenario broke are restarted. */
  private async take(count: number, behaviour: Partial<Behaviour>): Promise<Pod[]> {
    const missing = Array.from({ length: Math.max(0, count - this.pods.length) }, (_, index) => index);
    const started = missing.map((index) =>
      Pod.start(this.owner, this.kind, SETTINGS, {
        name: `replica-${this.pods.length + index + 1}`,
        folder: this.folder,
      }),
    );
    const pods = this.pods.slice(0, count);
    await Promise.all(pods.map((pod) => pod.renew()));
    this.pods.push(...(await Promise.all(started)));
    const taken = this.pods.slice(0, count);
    await Promise.all(taken.map((pod) => pod.behave(behaviour)));
    return taken;
  }

  /** @param owner ends the caller's part of the mesh */
  async mesh(
    owner: Owner,
    { pods: count = 3, settings: changes = {}, behaviour = {} }: MeshOptions = {},
  ): Promise<Mesh> {
    const pods = await this.take(count, behaviour);
    const endpoints = pods.map(({ address }) => address);
    return callerMesh(owner, this.kind, pods, { ...SETTINGS, ...changes, name: 'caller', endpoints });
  }
}

/**
 * A caller with its own proxy in front of these pods.
 *
 * @param warmUp makes calls first, so that all connections exist and every pod has answered
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
