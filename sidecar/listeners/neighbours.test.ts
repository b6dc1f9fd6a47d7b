// Tests which IPv6 addresses count as one caller.
import t from 'tap';
import { MAX_SINGLE, Neighbours, networkOf } from './neighbours.ts';

t.test('a network is the first half of an address in every notation', async (t) => {
  const network = '2001:db8:0:7::/64';
  for (const address of ['2001:db8:0:7::1', '2001:db8:0:7:1:2:3:4', '2001:db8:0:7::', '2001:db8:0:7:1::'])
    t.equal(networkOf(address), network, address);
  t.equal(networkOf('2001:db8::7:1:2:3:4'), network, 'zeros in the first half');
  t.equal(networkOf('::1'), '0:0:0:0::/64');
  t.equal(networkOf('fe80::1%eth0'), 'fe80:0:0:0::/64', 'of one interface');
  for (const other of ['10.0.0.1', 'a local socket', network]) t.equal(networkOf(other), undefined, other);
});

t.test('some hundred addresses of a network count one by one, and no more', async (t) => {
  const neighbours = new Neighbours();
  const address = (n: number): string => `2001:db8::${n.toString(16)}`;
  const network = networkOf(address(1))!;
  for (let n = 0; n < MAX_SINGLE; n++) {
    t.equal(neighbours.nameOf(address(n)), address(n));
    neighbours.add(address(n));
  }
  t.equal(neighbours.nameOf(address(MAX_SINGLE)), network);
  neighbours.add(network);
  t.equal(neighbours.nameOf(address(3)), address(3), 'those who were there keep their names');
  t.equal(neighbours.nameOf('2001:db8:1::1'), '2001:db8:1::1', 'another network');
  for (let n = 0; n < 1_000; n++)
    t.equal(neighbours.nameOf(`10.0.${n >> 8}.${n & 255}`), `10.0.${n >> 8}.${n & 255}`);
  neighbours.delete(network);
  neighbours.delete(address(3));
  t.equal(neighbours.nameOf(address(MAX_SINGLE)), address(MAX_SINGLE), 'when one of them has gone');
});
