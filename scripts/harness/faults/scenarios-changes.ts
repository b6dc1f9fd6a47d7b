// Scenarios of planned changes of replicas, which no caller should notice.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../free-port.ts';
import { Load } from './load.ts';
import { callerMesh, type Fleet, type Mesh, temporaryFolder } from './mesh.ts';
import { commonBars, LOAD, type Scenario } from './one-fault.ts';
import { Pod } from './pod.ts';
import { type Owner, SETTINGS } from './proxy.ts';
import { type Bar, countCalls, failuresOf, latencyMs, type Row } from './row.ts';
import { Watch } from './watch.ts';
import { withoutHosts } from './with-hosts.ts';

/** Every second call is a stream that takes over a second. */
const LONG_STREAMS = { ...LOAD, perSecond: 40, streamEvery: 2, timeoutMs: 6_000 };
/** For the caller's proxy. */
const PATIENT = { timeoutMs: 6_000 };
const LONG = { chunks: 12, chunkEveryMs: 100 };

/** A change under load, which may lose, cut or repeat nothing. */
async function planned(
  fault: string,
  mesh: Mesh,
  change: (watch: Watch) => Promise<Pick<Row, 'reached' | 'outAfterMs' | 'backAfterMs'>>,
): Promise<Row> {
  const watch = await Watch.begin(mesh.front, mesh.pods[0]!.address);
  const load = new Load(mesh.caller, LONG_STREAMS);
  await sleep(700);
  const times = await change(watch);
  const records = await load.stop();
  await watch.stop();
  const counts = countCalls(records, mesh.runs(load.travelMs), LONG_STREAMS.timeoutMs, load.travelMs);
  const failed = counts.calls - counts.ok;
  const bars: Bar[] = [
    ...commonBars(counts),
    { bar: `no stream cut, no call failed at all (${failed})`, holds: failed === 0 },
  ];
  const streams = records.filter(({ streaming }) => streaming).length;
  const note = [`${streams} of them streams of 1.2 s; p99 ${latencyMs(records, 99)} ms`, failuresOf(records)];
  return { fault, ...counts, ...times, note: note.filter((text) => text !== '').join('; '), bars };
}

const rollingRestart: Scenario = {
  name: 'rolling restart of every replica',
  async run(fleet, owner) {
    const mesh = await fleet.mesh(owner, { behaviour: LONG, settings: PATIENT });
    return planned(this.name, mesh, async () => {
      for (const pod of mesh.pods) {
        await pod.leave();
        await pod.restart();
        await sleep(500);
      }
      return {};
    });
  },
};

const drain: Scenario = {
  name: 'drain of one pod',
  async run(fleet, owner) {
    const mesh = await fleet.mesh(owner, { behaviour: LONG, settings: PATIENT });
    const pod = mesh.pods[0]!;
    return planned(this.name, mesh, async (watch) => {
      const fromMs = Date.now();
      await pod.proxy.drain();
      await sleep(2_500);
      const toMs = Date.now();
      await pod.leave();
      return {
        reached: watch.sentBetween(fromMs, toMs),
        outAfterMs: watch.quietAfterMs(fromMs, toMs),
      };
    });
  },
};

/** A name whose addresses change from pods 1 and 2 to pods 2 and 3, before pod 1 ends. */
const dnsChange: Scenario = {
  name: 'DNS change',
  async run(fleet, owner) {
    const missing = withoutHosts();
    if (missing !== false) return notRun(this.name, missing);
    const folder = temporaryFolder(owner);
    const hostsFile = join(folder, 'hosts');
    const name = 'replicas.test';
    const hosts = (pods: readonly Pod[]): void =>
      writeFileSync(
        hostsFile,
        [...pods.map(({ address }) => `${address.split(':')[0]} ${name}`), '127.0.0.1 localhost\n'].join(
          '\n',
        ),
      );
    const port = await freePort();
    const pods = await startOnAddresses(fleet, owner, folder, port);
    hosts(pods.slice(0, 2));
    const settings = {
      ...SETTINGS,
      ...PATIENT,
      name: 'caller',
      endpoints: `${name}:${port}`,
      hostsFile,
    };
    const mesh = await callerMesh(owner, fleet.kind, pods, settings);
    const [first, , third] = pods as [Pod, Pod, Pod];
    return planned(this.name, mesh, async (watch) => {
      const fromMs = Date.now();
      hosts(pods.slice(1));
      await sleep(2_500);
      const toMs = Date.now();
      await first.leave();
      const newcomer = third.runs[0];
      return {
        reached: watch.sentBetween(fromMs, toMs),
        outAfterMs: watch.quietAfterMs(fromMs, toMs),
        backAfterMs: newcomer === undefined ? 'never' : newcomer.beganMs - fromMs,
      };
    });
  },
};

/** Three pods on one port of three addresses, like those of a headless Service. */
async function startOnAddresses(fleet: Fleet, owner: Owner, folder: string, port: number): Promise<Pod[]> {
  const numbers = [1, 2, 3];
  const pods = await Promise.all(
    numbers.map((number) =>
      Pod.start(owner, fleet.kind, SETTINGS, {
        name: `host-${number}`,
        folder,
        host: `127.0.0.${number + 1}`,
        port,
      }),
    ),
  );
  await Promise.all(pods.map((pod) => pod.behave(LONG)));
  return pods;
}

function notRun(fault: string, why: string): Row {
  const none = { calls: 0, ok: 0, lost: 0, failed: 0, timedOut: 0, cut: 0, shed: 0, twice: 0 };
  return { fault, ...none, note: `not run: ${why}`, bars: [] };
}

export const changeScenarios: readonly Scenario[] = [dnsChange, rollingRestart, drain];
