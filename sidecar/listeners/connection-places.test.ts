// Fair sharing of connections among addresses.
import t from 'tap';
import { type ConnectionPlace, ConnectionPlaces, type IdleCandidate } from './connection-places.ts';

interface Connected extends IdleCandidate {
  readonly address: string;
  isIdle: boolean;
}

/** A listener's connections, in the order of their arrival. */
class Listener {
  readonly places: ConnectionPlaces;
  readonly open: Connected[] = [];
  private comings = 0;

  constructor(limit: number) {
    this.places = new ConnectionPlaces(limit);
  }

  private add(address: string, place: ConnectionPlace, isIdle: boolean): void {
    this.open.push({ address, place, isIdle, lastReadAtMs: this.comings++ });
  }

  /** `taken`, `refused`, or the address whose connection was closed. */
  connect(address: string, isIdle = true): string {
    const free = this.places.take(address);
    if (free !== undefined) {
      this.add(address, free, isIdle);
      return 'taken';
    }
    const idle = this.places.idlest(this.open, address);
    if (idle === undefined) return 'refused';
    this.add(address, this.places.takeOver(idle.place, address), isIdle);
    this.close(idle);
    return idle.address;
  }

  close(connection: Connected): void {
    this.open.splice(this.open.indexOf(connection), 1);
    // Its socket closes after the connection.
    this.places.release(connection.place);
    this.places.release(connection.place);
  }

  of(address: string): Connected[] {
    return this.open.filter((connection) => connection.address === address);
  }
}

t.test(
  'an address alone has all but an eighth, and beyond them its own idle ones go, the stillest first',
  async (t) => {
    const listener = new Listener(64);
    for (let i = 0; i < 56; i++) t.equal(listener.connect('a'), 'taken');
    listener.open[0]!.isIdle = false;
    const stillest = listener.open[1]!;
    t.equal(listener.connect('a'), 'a');
    t.notOk(listener.open.includes(stillest));
    t.equal(listener.of('a').length, 56);
    t.equal(listener.places.used, 56);
    t.equal(listener.connect('b'), 'taken', 'another address finds a place');
    for (const connection of listener.of('a')) connection.isIdle = false;
    t.equal(listener.connect('a'), 'refused', 'who is busy with all has no more');
    t.equal(listener.of('b').length, 1, "and gets nobody else's");
  },
);

t.test('when no place is free, the idle connections of the largest holder close', async (t) => {
  const listener = new Listener(64);
  for (const address of ['a', 'b', 'c']) while (listener.connect(address) === 'taken');
  const count = (address: string): number => listener.of(address).length;
  while (listener.places.used < 64) listener.connect(`d${listener.places.used}`);
  t.equal(listener.connect('e'), 'a');
  const before = [count('a'), count('b')];
  t.equal(listener.connect('b'), 'a', 'who has more, and would have so without it');
  t.strictSame([count('a'), count('b')], [before[0]! - 1, before[1]! + 1]);
  for (const connection of listener.of('a')) connection.isIdle = false;
  t.equal(listener.connect('f'), 'b');
  for (const connection of listener.open) connection.isIdle = false;
  t.equal(listener.connect('g'), 'refused', 'nobody is idle');
  for (const connection of [...listener.open]) listener.close(connection);
  t.equal(listener.places.used, 0);
});

t.test('a host with a whole IPv6 network can not take all places with one address each', async (t) => {
  const listener = new Listener(1_024);
  for (let n = 0; n < 2_000; n++) listener.connect(`2001:db8::${n.toString(16)}`);
  t.ok(listener.places.used >= 900, `${listener.places.used} places are taken`);
  for (let n = 1; n <= 100; n++)
    t.not(listener.connect(`2001:db8:${n}::1`), 'refused', 'another network finds a place');
  for (let n = 1; n <= 100; n++) t.not(listener.connect(`10.0.0.${n}`), 'refused', 'an address of IPv4, too');
  while (listener.open.length > 0) listener.close(listener.open[0]!);
  t.equal(listener.places.used, 0);
});
