// What `/clusters` and the rest of `/stats` tell of attempts, circuits, ejections, rejections and tasks, held to the ledger.
import type { Test } from 'tap';
import { tally } from './calls-told.ts';
import { complaint, type Ledger, type Service } from './ledger.ts';
import { rejectedOf } from './series.ts';
import { adminPage, type ToldSystem } from './system.ts';

type Counts = Readonly<Record<string, number>>;

interface ClusterPage {
  readonly active_calls: number;
  readonly retries: Counts;
  readonly retries_running: number;
  readonly circuits: Readonly<Record<string, { readonly state: string; readonly rejections: number }>>;
  readonly endpoints: readonly {
    readonly address: string;
    readonly ejections: number;
    readonly usable: boolean;
    readonly attempts: Counts;
  }[];
}

interface StatsPage {
  readonly listeners: Readonly<Record<string, { readonly rejected: Counts; readonly error_rate: number }>>;
  readonly tasks_once: { readonly joined: number; readonly replayed: number; readonly refused: number };
}

export async function holdClusters(
  t: Test,
  system: ToldSystem,
  ledger: Ledger,
  service: Service,
): Promise<void> {
  const clusters = (await adminPage(system[service], '/clusters')) as Record<string, ClusterPage>;
  const isCaller = service === 'caller';
  for (const [name, cluster] of Object.entries(clusters)) {
    const made = isCaller ? ledger.made.filter((call) => call.cluster === name) : [];
    const codes = isCaller
      ? made.flatMap(({ attempts }) => attempts)
      : ledger.served.filter(({ atApp }) => atApp !== undefined).map(({ code }) => code);
    const told: Record<string, number> = {};
    for (const { attempts } of cluster.endpoints)
      for (const [code, count] of Object.entries(attempts)) told[code] = (told[code] ?? 0) + count;
    t.same(told, tally(codes, String), `attempts in /clusters of ${service} ${name}`);
    const addresses = cluster.endpoints.map(({ address }) => address);
    if (isCaller && name !== 'app')
      t.same(addresses.sort(), system.endpoints[name]!.toSorted(), `endpoints of ${name}`);
    const own = <T extends { cluster: string }>(all: readonly T[]): T[] =>
      isCaller ? all.filter((one) => one.cluster === name) : [];
    const retries = own(ledger.decisions).filter(({ kind }) => kind === 'retries');
    t.same(
      cluster.retries,
      tally(retries, ({ outcome }) => outcome),
      `retries of ${service} ${name}`,
    );
    t.same([cluster.active_calls, cluster.retries_running], [0, 0]);
    const open = Object.entries(cluster.circuits)
      .filter(([, { state, rejections }]) => state !== 'closed' || rejections > 0)
      .map(([method, { state, rejections }]) => `${method} ${state} ${rejections}`);
    t.same(
      open,
      own(ledger.opened).map(({ method, turnedAway }) => `${method} open ${turnedAway}`),
      `circuits of ${service} ${name}`,
    );
    const ejections = own(ledger.ejected).length;
    t.equal(
      cluster.endpoints.reduce((sum, one) => sum + one.ejections, 0),
      ejections,
      `ejections of ${service} ${name}`,
    );
    const out = cluster.endpoints.filter(({ usable }) => !usable).length;
    // One to which no connection can be made is tried again and again.
    if (own(ledger.unconnected).length === 0) t.equal(out, ejections, `unusable endpoints of ${name}`);
  }

  const stats = (await adminPage(system[service], '/stats')) as StatsPage;
  for (const listener of ['inbound', 'outbound']) {
    const { rejected } = stats.listeners[listener]!;
    const reasons = ledger.rejected.filter((one) => one.service === service && one.listener === listener);
    const known = new Set([...Object.keys(rejected), ...reasons.map(({ reason }) => reason)]);
    for (const reason of known)
      t.equal(
        complaint(rejectedOf(service, listener, reason, ledger), rejected[reason] ?? 0),
        undefined,
        `${listener} ${reason}`,
      );
  }
  const { refused, ...again } = stats.tasks_once;
  const told = { joined: again.joined, replayed: again.replayed };
  t.same(
    [told, refused],
    [isCaller ? { joined: 0, replayed: 0 } : tally(ledger.again, ({ outcome }) => outcome), 0],
  );
}
