/** Tests which fields the encoder indexes, and that the other side agrees. */
import { isDeepStrictEqual } from 'node:util';
import t, { type Test } from 'tap';
import { GRPC_FIELD_NAMES } from '../../grpc/field-names.ts';
import { HpackDecoder } from './decoder.ts';
import { HpackEncoder } from './encoder.ts';
import { HeaderList } from './header-list.ts';

const newDecoder = () => new HpackDecoder({ maxTableBytes: 65536, maxListBytes: 65536 });

/** An encoder, and the decoder at the other end, which checks each block. */
class Wire {
  readonly encoder: HpackEncoder;
  readonly decoder = newDecoder();
  private readonly t: Test;
  constructor(t: Test, maxTableBytes?: number) {
    this.t = t;
    this.encoder = new HpackEncoder({
      knownNames: GRPC_FIELD_NAMES,
      ...(maxTableBytes === undefined ? {} : { maxTableBytes }),
    });
  }
  /** Sends a list, and returns its block in hex. */
  send(list: HeaderList | string[]): string {
    const sent = Array.isArray(list) ? new HeaderList(list) : list;
    this.encoder.encode(sent);
    const got = this.decoder.decode(this.encoder.block, 0, this.encoder.blockEnd);
    const same =
      isDeepStrictEqual(got?.fields, sent.fields) && isDeepStrictEqual(got?.neverIndexed, sent.neverIndexed);
    if (!same) this.t.fail(`sent ${sent.fields}, got ${got?.fields ?? this.decoder.error}`);
    if (this.decoder.tableBytes !== this.encoder.tableBytes) this.t.fail('the two tables differ');
    return this.encoder.block.toString('hex', 0, this.encoder.blockEnd);
  }
}

function sharedList(fields: string[], neverIndexed?: number[]): HeaderList {
  const list = new HeaderList(fields, neverIndexed);
  list.shared = true;
  return list;
}

t.test('a pair enters the table on its second sight', async (t) => {
  const wire = new Wire(t);
  t.equal(wire.send([':method', 'POST', 'te', 'trailers']), '830002746508747261696c657273');
  t.equal(wire.send([':method', 'POST', 'te', 'trailers']), '834002746508747261696c657273');
  t.equal(wire.send([':method', 'POST', 'te', 'trailers']), '83be');
  t.equal(wire.send(['te', 'other']), '0f2f056f74686572', 'and lends others its name');
});

t.test('values that are unique to a call do not change the table', async (t) => {
  const wire = new Wire(t);
  const list = sharedList([':path', '/agent.AgentService/ProcessTask', 'x-tenant', 'one']);
  for (let i = 0; i < 3; i++) wire.send(list);
  const block = wire.encoder.block;
  const { tableBytes } = wire.encoder;
  for (let i = 0; i < 1000; i++) {
    wire.send([':path', '/agent.AgentService/ProcessTask', 'x-unique', `value ${i}`, 'x-call', `${i}${i}`]);
  }
  t.equal(wire.encoder.tableBytes, tableBytes);
  wire.send(list);
  t.equal(wire.encoder.block, block, 'the block made before is still the answer');
  for (let i = 0; i < 50; i++) wire.send(['grpc-timeout', '1S', 'traceparent', 'the same', 'date', 'today']);
  t.equal(wire.encoder.tableBytes, tableBytes, 'per-call fields are not indexed even when they repeat');
  for (let i = 0; i < 5; i++) wire.send(sharedList(['x-large', 'x'.repeat(1000)]));
  t.equal(wire.encoder.tableBytes, tableBytes, 'nor is what would take most of the table');
});

t.test('secrets and never-indexed fields stay never indexed', async (t) => {
  const wire = new Wire(t);
  const names = ['authorization', 'proxy-authorization', 'cookie', 'set-cookie', 'x-api-key', 'api-key'];
  for (const name of names) {
    for (let i = 0; i < 5; i++) {
      wire.encoder.encode(new HeaderList([name, 'secret']));
      t.equal(wire.encoder.block[0]! & 0xf0, 0x10, name);
      t.same(wire.decoder.decode(wire.encoder.block, 0, wire.encoder.blockEnd)?.neverIndexed, [0]);
    }
  }
  for (let i = 0; i < 5; i++) {
    wire.send(new HeaderList([':method', 'GET', 'x-token', 't', 'a', 'b', 'x-token', 't'], [0, 1, 3]));
    wire.send(sharedList(['x-token', 't', ':status', '200'], [0, 1]));
  }
  t.equal(wire.encoder.tableBytes, 34, 'the table holds a: b alone');
  wire.send(['x-token', 'open']);
  wire.send(['x-token', 'open']);
  t.equal(wire.send(new HeaderList(['x-token', 't'], [0])), '1f2f0174', 'the name may be indexed');
});

t.test('a full table evicts its oldest entry, so rarely that encoded blocks stay useful', async (t) => {
  const wire = new Wire(t);
  const lists = Array.from({ length: 100 }, (_, n) => sharedList([`x-name-${n % 3}`, `value-${n}`]));
  for (const list of lists) wire.send(list);
  t.ok(wire.encoder.tableBytes > 4000 && wire.encoder.tableBytes <= 4096);
  let inserted = 0;
  for (let i = 0; i < 20_000; i++) {
    wire.encoder.encode(lists[i % 100]!);
    const { block, blockEnd } = wire.encoder;
    if ((block[0]! & 0xc0) === 0x40) inserted++;
    const got = wire.decoder.decode(block, 0, blockEnd);
    if (got?.fields[1] !== `value-${i % 100}`) t.fail(`list ${i % 100}: ${wire.decoder.error}`);
  }
  t.ok(inserted > 10 && inserted < 20_000 / 200, `${inserted} insertions`);
});

t.test('changes of the table size', async (t) => {
  t.test('shrink, then grow: the encoder sends the smallest and the final size', async (t) => {
    const wire = new Wire(t);
    for (let i = 0; i < 2; i++) wire.send(['te', 'trailers']);
    wire.encoder.setPeerTableBytes(100);
    wire.encoder.setPeerTableBytes(0);
    wire.encoder.setPeerTableBytes(200);
    t.match(wire.send(['te', 'trailers']), /^203fa901/);
    t.notMatch(wire.send([':method', 'GET']), /^20/, 'once');
  });
  t.test('there and back between two blocks still empties the table', async (t) => {
    const wire = new Wire(t);
    for (let i = 0; i < 2; i++) wire.send(['te', 'trailers']);
    wire.encoder.setPeerTableBytes(0);
    wire.encoder.setPeerTableBytes(4096);
    t.equal(wire.send([':method', 'GET']), '203fe11f82');
    t.equal(wire.encoder.tableBytes, 0);
  });
  t.test('no change, or room that the encoder will not use, needs no update', async (t) => {
    const wire = new Wire(t);
    wire.encoder.setPeerTableBytes(4096);
    wire.encoder.setPeerTableBytes(1 << 20);
    t.equal(wire.send([':method', 'GET']), '82');
    wire.encoder.setPeerTableBytes(5000);
    t.equal(wire.send([':method', 'GET']), '82');
  });
  t.test('the encoder sends a cap of its own', async (t) => {
    const small = new Wire(t, 256);
    t.equal(small.send([':method', 'GET']), '3fe10182');
    const large = new Wire(t, 8192);
    t.equal(large.send([':method', 'GET']), '82', 'not above the default before the peer allows it');
    large.encoder.setPeerTableBytes(65536);
    t.equal(large.send([':method', 'GET']), '3fe13f82');
  });
  t.test('a table of size 0 works', async (t) => {
    const wire = new Wire(t);
    const list = sharedList(['te', 'trailers']);
    wire.send(list);
    wire.send(list);
    wire.encoder.setPeerTableBytes(0);
    t.equal(wire.send(list), '200002746508747261696c657273');
    t.equal(wire.send(list), '0002746508747261696c657273');
    t.equal(wire.encoder.tableBytes, 0);
  });
});

t.test('the memo returns the list of a repeated block', async (t) => {
  const decoder = newDecoder();
  const decode = (text: string) => {
    const block = Buffer.from(text, 'hex');
    return decoder.decode(block, 0, block.length);
  };
  decode('4001610131');
  const [first, second, third, fourth] = [decode('be83'), decode('be83'), decode('be83'), decode('be83')];
  t.same(first?.fields, ['a', '1', ':method', 'POST']);
  t.equal(first?.shared, false, 'a block that may never come again is nobody else’s');
  t.equal(third, second);
  t.equal(fourth, second, 'the same list each time');
  t.equal(second?.shared, true);

  decode('4001620132');
  t.same(
    decode('be83')?.fields,
    ['b', '2', ':method', 'POST'],
    'the same bytes after an insertion mean another list',
  );
  decode('be83');
  t.same(decode('be83')?.fields, ['b', '2', ':method', 'POST']);
  t.same(decode('bf')?.fields, ['a', '1']);
  decode('bf');
  t.equal(decode('bf')?.shared, true);
  decode('20');
  t.equal(decode('bf'), undefined, 'nor does the memo outlive an emptied table');
});

t.test('the memo keeps several blocks, and distinguishes a block from its prefix', async (t) => {
  const decoder = newDecoder();
  const block = Buffer.alloc(128, 0x82);
  for (let i = 0; i < 3; i++) {
    const [one, two] = [decoder.decode(block, 0, 1), decoder.decode(block, 0, 2)];
    t.same([one?.shared, two?.shared], [i === 2, i === 2]);
  }
  for (let length = 128; length >= 0; length--) {
    for (let i = 0; i < 3; i++) {
      const list = decoder.decode(block, 0, length);
      if (list?.fields.length !== 2 * length) t.fail(`${length} bytes: ${list?.fields.length} strings`);
    }
  }
});

t.test('blocks that change the table are decoded each time', async (t) => {
  const decoder = newDecoder();
  const block = Buffer.from('4001610131', 'hex');
  for (let i = 1; i <= 5; i++) {
    t.equal(decoder.decode(block, 0, 5)?.shared, false);
    t.equal(decoder.tableBytes, 34 * i);
  }
});

t.test('many different blocks decode correctly, with or without the memo', async (t) => {
  const decoder = newDecoder();
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 2000; i++) {
      const block = Buffer.concat([Buffer.from([0, 1, 97, 2, i & 255, i >> 8]), Buffer.alloc(i % 40, 0x82)]);
      const list = decoder.decode(block, 0, block.length);
      if (list?.fields[1] !== String.fromCharCode(i & 255, i >> 8)) t.fail(`block ${i}: ${decoder.error}`);
      if (list?.fields.length !== 2 + 2 * (i % 40)) t.fail(`block ${i} has ${list?.fields.length} strings`);
    }
  }
  t.equal(decoder.tableBytes, 0);
});

t.test('the encoder encodes a shared list once for each state of the table', async (t) => {
  const wire = new Wire(t);
  const list = sharedList(['te', 'trailers', 'a', 'b']);
  wire.send(list);
  t.equal(wire.send(list), 'bfbe');
  t.equal(wire.send(list), 'bfbe');
  const block = wire.encoder.block;
  t.equal(wire.send(list), 'bfbe');
  t.equal(wire.encoder.block, block, 'from the cache');
  wire.send(sharedList(['c', 'd']));
  t.equal(wire.send(list), 'c0bf', 'indexes moved');
  wire.encoder.setPeerTableBytes(0);
  wire.send([]);
  t.match(wire.send(list), /^0002/);
  const large = sharedList(['x-large', 'x'.repeat(1100)]);
  for (let i = 0; i < 3; i++) wire.send(large);
  t.not(wire.encoder.block.length, wire.encoder.blockEnd, 'large blocks are not kept');
});
