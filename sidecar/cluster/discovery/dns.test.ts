// DNS discovery on a virtual clock and a DNS that the test writes.
import t from 'tap';
import { seededRandom } from '../../../test/support/seeded-random.ts';
import { TimerWheel } from '../../clock/timer-wheel.ts';
import { WheelDriver } from '../../clock/wheel-driver.ts';
import { AddressError } from '../../net/address.ts';
import { DnsDiscovery } from './dns.ts';

type Answer = readonly string[] | Error | 'never';

/** A name in a DNS that the test writes, on a virtual clock. */
class Dns {
  readonly wheel = new TimerWheel();
  readonly emitted: (readonly string[])[] = [];
  readonly errors: Error[] = [];
  readonly askedAtMs: number[] = [];
  readonly discovery: DnsDiscovery;
  nowMs = 50_000;
  answer: Answer = ['10.0.0.1'];
  /** How long an answer takes. */
  delayMs = 0;
  running = 0;
  mostRunning = 0;
  private pending: { atMs: number; settle: () => void }[] = [];

  constructor({ address = 'agents:50051', refreshMs = 5000, random = (): number => 0.5 } = {}) {
    this.discovery = new DnsDiscovery({
      address,
      refreshMs,
      random,
      wheel: this.wheel,
      now: () => this.nowMs,
      lookup: (host) => this.lookup(host),
    });
    this.wheel.advance(this.nowMs);
  }

  start(): void {
    this.discovery.start(
      (addresses) => this.emitted.push(addresses),
      (error) => this.errors.push(error),
    );
  }

  /** Lets time pass in steps of 10 ms, and runs everything that is due. */
  async pass(durationMs: number): Promise<void> {
    const endMs = this.nowMs + durationMs;
    while (this.nowMs < endMs) {
      this.nowMs += 10;
      for (const { settle } of this.pending.filter(({ atMs }) => atMs <= this.nowMs)) settle();
      this.pending = this.pending.filter(({ atMs }) => atMs > this.nowMs);
      await settled();
      this.wheel.advance(this.nowMs);
      await settled();
    }
  }

  private lookup(host: string): Promise<readonly string[]> {
    if (host !== 'agents') throw new Error(`asked for ${host}`);
    this.askedAtMs.push(this.nowMs - 50_000);
    this.mostRunning = Math.max(this.mostRunning, ++this.running);
    const { answer } = this;
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        this.running--;
        if (answer instanceof Error) reject(answer);
        else resolve(answer as readonly string[]);
      };
      if (answer === 'never') return;
      if (this.delayMs === 0) settle();
      else this.pending.push({ atMs: this.nowMs + this.delayMs, settle });
    });
  }
}

/** Lets the callbacks of settled promises run. */
async function settled(): Promise<void> {
  for (let i = 0; i < 5; i++) await null;
}

const notFound = Object.assign(new Error('getaddrinfo ENOTFOUND agents'), { code: 'ENOTFOUND' });

t.test('discovery reports every address once, sorted, and again only when the set has changed', async (t) => {
  const dns = new Dns();
  dns.answer = ['10.0.0.9', 'fd00::1', '10.0.0.10', '10.0.0.9'];
  dns.start();
  await settled();
  t.strictSame(dns.emitted, [['10.0.0.10:50051', '10.0.0.9:50051', '[fd00::1]:50051']]);
  dns.answer = ['fd00::1', '10.0.0.10', '10.0.0.9'];
  await dns.pass(20_000);
  t.equal(dns.emitted.length, 1, 'another order is no change');
  t.strictSame(dns.askedAtMs, [0, 5000, 10_000, 15_000, 20_000]);
  dns.answer = ['10.0.0.10'];
  await dns.pass(5000);
  t.strictSame(dns.emitted[1], ['10.0.0.10:50051']);
  t.strictSame(dns.errors, []);
  t.throws(() => dns.start(), /started already/);
  dns.discovery.stop();
});

t.test('the interval varies by a tenth, so that the look-ups of a fleet spread out', async (t) => {
  const dns = new Dns({ random: seededRandom(9) });
  dns.start();
  await dns.pass(300_000);
  const intervals = dns.askedAtMs.slice(1).map((atMs, i) => atMs - dns.askedAtMs[i]!);
  const [least, most] = [Math.min(...intervals), Math.max(...intervals)];
  t.ok(least >= 4500 && least < 4700 && most > 5300 && most <= 5510, `from ${least} to ${most}`);
  dns.discovery.stop();
});

t.test('failures keep the last good set, and discovery reports the first of a streak', async (t) => {
  const dns = new Dns({ refreshMs: 60_000 });
  dns.start();
  await dns.pass(10);
  dns.answer = notFound;
  await dns.pass(60_000);
  dns.answer = [];
  await dns.pass(30_000);
  t.equal(dns.emitted.length, 1);
  t.equal(dns.errors.length, 1);
  t.match(dns.errors[0], {
    name: 'DiscoveryError',
    message: /DNS look-up of "agents": the name does not exist; .* the last addresses stay in use/,
  });
  const failing = dns.askedAtMs.filter((atMs) => atMs >= 60_000);
  const waits = failing.slice(1).map((atMs, i) => atMs - failing[i]!);
  t.strictSame(
    waits.slice(0, 5),
    [1000, 1600, 2560, 4100, 6560],
    'it asks sooner than usual, and ever less often',
  );
  dns.answer = ['10.0.0.2'];
  await dns.pass(60_000);
  t.strictSame(dns.emitted[1], ['10.0.0.2:50051']);
  dns.answer = [];
  await dns.pass(120_000);
  t.equal(dns.errors.length, 2, 'the next streak is another');
  t.match(dns.errors[1]!.message, /it has no addresses/);
  t.ok(
    dns.askedAtMs.every((atMs, i) => i === 0 || atMs - dns.askedAtMs[i - 1]! >= 1000),
    'never twice a second',
  );
  dns.discovery.stop();
});

t.test('discovery finds a name as soon as it exists', async (t) => {
  const dns = new Dns();
  dns.answer = notFound;
  dns.start();
  await dns.pass(4000);
  t.strictSame(dns.emitted, []);
  t.match(dns.errors[0]!.message, /does not exist; check its spelling/);
  t.notMatch(dns.errors[0]!.message, /stay in use/);
  dns.answer = ['10.0.0.1'];
  await dns.pass(5000);
  t.strictSame(dns.emitted, [['10.0.0.1:50051']]);
  dns.discovery.stop();
});

t.test('refresh() starts an early look-up, at most once a second', async (t) => {
  const dns = new Dns({ refreshMs: 60_000 });
  dns.start();
  await dns.pass(5000);
  dns.discovery.refresh();
  t.strictSame(dns.askedAtMs, [0, 5000], 'at once when the last is a while ago');
  for (let i = 0; i < 300; i++) {
    dns.discovery.refresh();
    await dns.pass(10);
  }
  await dns.pass(2000);
  t.strictSame(
    dns.askedAtMs,
    [0, 5000, 6000, 7000, 8000],
    'the last call is not lost, and none comes after it',
  );
  await dns.pass(59_000);
  t.equal(dns.askedAtMs.length, 6, 'then the usual interval again');

  dns.delayMs = 300;
  dns.discovery.refresh();
  const startMs = dns.askedAtMs.at(-1)!;
  await dns.pass(100);
  dns.discovery.refresh();
  dns.discovery.refresh();
  await dns.pass(3000);
  t.strictSame(
    dns.askedAtMs.slice(7).map((atMs) => atMs - startMs),
    [1000],
    'one that comes while a look-up runs asks again after it',
  );
  t.equal(dns.mostRunning, 1);
  dns.discovery.stop();
});

t.test('slow look-ups never overlap', async (t) => {
  const dns = new Dns({ refreshMs: 1000 });
  dns.delayMs = 3000;
  dns.start();
  for (let i = 0; i < 100; i++) {
    dns.discovery.refresh();
    await dns.pass(200);
  }
  t.equal(dns.mostRunning, 1);
  t.ok(dns.askedAtMs.length >= 6, `${dns.askedAtMs.length} look-ups`);
  t.equal(dns.emitted.length, 1);
  t.strictSame(dns.errors, []);
  dns.discovery.stop();
});

t.test('a look-up without an answer times out, and after two of them no other starts', async (t) => {
  const dns = new Dns();
  dns.answer = 'never';
  dns.start();
  await dns.pass(4900);
  t.strictSame(dns.errors, []);
  await dns.pass(200);
  t.match(dns.errors[0]!.message, /no answer within 5 s/);
  t.equal(dns.askedAtMs.length, 2, 'it asks again');
  await dns.pass(120_000);
  t.equal(dns.askedAtMs.length, 2, 'each of them holds a thread of this process');
  t.equal(dns.errors.length, 1);
  dns.discovery.stop();

  const once = new Dns();
  once.answer = 'never';
  once.start();
  await once.pass(3000);
  once.answer = ['10.0.0.1'];
  await once.pass(10_000);
  t.strictSame(once.emitted, [['10.0.0.1:50051']], 'the second look-up counts');
  await once.pass(20_000);
  t.ok(once.askedAtMs.length >= 6, 'and the interval goes on');
  once.discovery.stop();
});

t.test('a late answer counts, unless a newer one has arrived', async (t) => {
  const dns = new Dns();
  dns.delayMs = 5500;
  dns.start();
  await dns.pass(5200);
  t.equal(dns.errors.length, 1, 'given up');
  t.equal(dns.askedAtMs.length, 2, 'and asked again');
  await dns.pass(400);
  t.strictSame(dns.emitted, [['10.0.0.1:50051']], 'the answer of the first, while the second runs');
  dns.discovery.stop();

  const outrun = new Dns();
  outrun.delayMs = 7000;
  outrun.answer = ['10.0.0.9'];
  outrun.start();
  await outrun.pass(4000);
  outrun.delayMs = 500;
  outrun.answer = ['10.0.0.3'];
  await outrun.pass(5000);
  t.strictSame(outrun.emitted, [['10.0.0.3:50051']], 'the second overtook the first');
  await outrun.pass(20_000);
  t.equal(outrun.emitted.length, 1);
  t.ok(outrun.askedAtMs.length > 3);
  outrun.discovery.stop();

  const empty = new Dns();
  empty.start();
  await empty.pass(1000);
  empty.answer = [];
  empty.delayMs = 5500;
  await empty.pass(9000);
  empty.answer = ['10.0.0.1'];
  empty.delayMs = 0;
  await empty.pass(5000);
  t.match(
    empty.errors.map(({ message }) => message),
    [/no answer within 5 s/],
    'and is no second failure',
  );
  empty.discovery.stop();
});

t.test('stop() leaves no timer and calls no listener', async (t) => {
  const waiting = new Dns();
  waiting.start();
  await waiting.pass(100);
  waiting.discovery.stop();
  t.equal(waiting.wheel.size, 0);
  waiting.answer = ['10.0.0.2'];
  waiting.discovery.refresh();
  await waiting.pass(20_000);
  t.equal(waiting.askedAtMs.length, 1);
  t.equal(waiting.emitted.length, 1);

  for (const answer of [['10.0.0.1'], notFound]) {
    const looking = new Dns();
    looking.answer = answer;
    looking.delayMs = 500;
    looking.start();
    await looking.pass(100);
    looking.discovery.stop();
    t.equal(looking.wheel.size, 0);
    await looking.pass(20_000);
    t.strictSame([looking.emitted, looking.errors, looking.wheel.size], [[], [], 0]);
  }
});

t.test('IP literals need no look-up', async (t) => {
  for (const address of ['10.0.0.7:50051', '[::1]:50051']) {
    const dns = new Dns({ address });
    dns.start();
    dns.discovery.refresh();
    await dns.pass(20_000);
    t.strictSame(dns.emitted, [[address]]);
    t.equal(dns.wheel.size, 0);
    dns.discovery.stop();
  }
});

t.test('discovery handles bad options, a resolver that throws, and an oversized set', async (t) => {
  const wheel = new TimerWheel();
  const now = (): number => 0;
  t.throws(
    () => new DnsDiscovery({ address: 'unix:/a', refreshMs: 5000, wheel, now }),
    /list it under endpoints/,
  );
  t.throws(() => new DnsDiscovery({ address: 'agents', refreshMs: 5000, wheel, now }), AddressError);
  t.throws(() => new DnsDiscovery({ address: 'agents:1', refreshMs: 0, wheel, now }), /refreshMs is 0/);

  const errors: Error[] = [];
  const lookup = (): never => {
    throw new Error('broken resolver');
  };
  const broken = new DnsDiscovery({ address: 'agents:1', refreshMs: 5000, wheel, now, lookup });
  broken.start(
    () => t.fail('no addresses'),
    (error) => errors.push(error),
  );
  await settled();
  t.match(errors[0]!.message, /"agents": broken resolver/);
  broken.stop();

  const dns = new Dns();
  dns.answer = Array.from({ length: 5000 }, (_, i) => `10.1.${i >> 8}.${i & 255}`);
  dns.start();
  await settled();
  t.equal(dns.emitted[0]!.length, 4096);
  t.match(dns.errors[0]!.message, /it has 5000 addresses; the sidecar uses the first 4096/);
  await dns.pass(30_000);
  t.equal(dns.errors.length, 1);
  dns.discovery.stop();
});

t.test("the system's resolver resolves localhost, and reports an unknown name", async (t) => {
  const wheel = new TimerWheel();
  const now = (): number => performance.now();
  const driver = new WheelDriver(wheel, now);
  t.teardown(() => driver.stop());
  const first = (address: string): Promise<readonly string[] | Error> => {
    const discovery = new DnsDiscovery({ address, refreshMs: 5000, wheel, now });
    t.teardown(() => discovery.stop());
    return new Promise((resolve) => discovery.start(resolve, resolve));
  };
  const found = (await first('localhost:50051')) as readonly string[];
  t.ok(found.includes('127.0.0.1:50051') || found.includes('[::1]:50051'), `${found}`);
  t.match(await first('no-such-agent.invalid:50051'), {
    name: 'DiscoveryError',
    message: /"no-such-agent.invalid"/,
  });
});
