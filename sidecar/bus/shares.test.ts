// The counters that replicas share: both engines give out no more than the total, whoever asks and however many.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { LeasedShare } from '../policy/leased-share.ts';
import { openFileShares } from './local/file-shares.ts';
import type { OpenShares } from './log/open-shares.ts';
import { openNatsShares } from './nats/nats-shares.ts';
import { startNats } from './nats/test-support/nats-server.ts';

const DAY_MS = 86_400_000;
const DRAW = { window: Math.floor(Date.now() / DAY_MS), endsAtMs: Date.now() + DAY_MS } as const;

async function keepsContract(t: Test, open: () => Promise<OpenShares>): Promise<void> {
  const replicas = await Promise.all([open(), open(), open()]);
  t.teardown(() => Promise.all(replicas.map((one) => one.close())));
  const [one, other] = replicas as [OpenShares, OpenShares, OpenShares];

  await t.test('parts add up to the total, and what is given back can be taken again', async (t) => {
    const draw = { ...DRAW, counter: 'a.b c', total: 100, least: 10, most: 60 };
    t.equal(await one.take(draw), 60);
    t.equal(await other.take(draw), 40, 'the rest is less than the most');
    t.equal(await one.take(draw), 0);
    await one.giveBack({ ...DRAW, counter: 'a.b c' }, 25);
    t.equal(await other.take({ ...draw, least: 30 }), 0, 'less than the least is of no use');
    t.equal(await other.take({ ...draw, most: 20 }), 20);
    t.equal(await other.take({ ...draw, window: DRAW.window + 1 }), 60, 'another window is another total');
    t.equal(await other.take({ ...draw, counter: 'c' }), 60);
  });

  await t.test('many at once never take more', async (t) => {
    const asked = Array.from({ length: 120 }, (_, index) =>
      replicas[index % 3]!.take({ ...DRAW, counter: 'many', total: 1_000, least: 7, most: 13 }),
    );
    const taken = (await Promise.all(asked)).reduce((sum, part) => sum + part, 0);
    t.ok(taken <= 1_000 && taken > 993, `${taken} of 1,000`);
  });

  await t.test('shares of three replicas keep one day, and one that dies keeps what it had', async (t) => {
    const total = 10_000;
    const shares = replicas.map((counters) => new LeasedShare('day', DAY_MS, () => counters));
    for (const share of shares) share.configure(total, 1);
    let used = 0;
    const spend = async (share: LeasedShare, rounds: number): Promise<void> => {
      for (let round = 0; round < rounds; round++) {
        const amount = 1 + ((round * 37) % 90);
        let part = share.reserve(amount, Date.now());
        while (part === undefined && (await share.fetch(amount, Date.now)) === 'more')
          part = share.reserve(amount, Date.now());
        if (part === undefined) return;
        const real = Math.floor(amount / (1 + (round % 3)));
        used += real;
        share.settle(part, real, Date.now());
      }
    };
    await Promise.all(shares.flatMap((share) => [spend(share, 40), spend(share, 40)]));
    // One dies here, with what it holds.
    const rest = shares.slice(1);
    await Promise.all(rest.map((share) => spend(share, 1_000)));
    t.ok(used <= total, `${used} of ${total} used`);
    t.ok(used >= total * 0.8, `${used}: little is lost with the dead one`);
    for (const share of rest) await share.giveBack(Date.now());
  });
}

t.test('in a file', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-shares-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  await keepsContract(t, () => openFileShares(join(folder, 'tasks.shares.db')));
});

t.test('on NATS, and closed while it is away', async (t) => {
  const nats = await startNats(t);
  const open = () => openNatsShares({ servers: [nats.address], name: 'egress', replicas: 1 });
  await keepsContract(t, open);
  const shares = await open();
  t.teardown(() => shares.close());
  const share = new LeasedShare('away', DAY_MS, () => shares);
  share.configure(1_000, 1);
  t.equal(await share.fetch(10, Date.now), 'more');
  await nats.kill();
  t.ok(share.reserve(50, Date.now()), 'what was leased may be used');
  t.equal(await share.fetch(60, Date.now), 'away');
  t.notOk(share.reserve(60, Date.now()), 'and no more');
  await nats.restart();
  await waitUntil('the counters are back', async () => (await share.fetch(60, Date.now)) === 'more');
});
