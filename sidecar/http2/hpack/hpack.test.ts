/** Tests the decoder and the encoder on RFC 7541's examples and on faults. */
import t from 'tap';
import { HpackDecoder } from './decoder.ts';
import { literalSize, writeLiteral } from './encoder.ts';
import { HeaderList } from './header-list.ts';
import { STATIC_ENTRIES, staticNames, staticValues } from './static-table.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
const newDecoder = (maxListBytes = 16384) => new HpackDecoder({ maxTableBytes: 4096, maxListBytes });

/** Decodes a block in hex, at an offset of a larger buffer, as a connection does. */
function decode(decoder: HpackDecoder, text: string) {
  const block = hex(text);
  const buffer = Buffer.concat([hex('beef'), block, hex('be')]);
  return decoder.decode(buffer, 2, 2 + block.length);
}

/** One `name: value` a line. */
const lines = (list: HeaderList | undefined) => {
  const out: string[] = [];
  for (let i = 0; list && i < list.fields.length; i += 2)
    out.push(`${list.fields[i]}: ${list.fields[i + 1]}`);
  return list && out;
};

t.test('static table (RFC 7541 appendix A)', async (t) => {
  t.equal(STATIC_ENTRIES, 61);
  const expected: [number, string, string][] = [
    [1, ':authority', ''],
    [3, ':method', 'POST'],
    [5, ':path', '/index.html'],
    [8, ':status', '200'],
    [14, ':status', '500'],
    [16, 'accept-encoding', 'gzip, deflate'],
    [23, 'authorization', ''],
    [31, 'content-type', ''],
    [38, 'host', ''],
    [55, 'set-cookie', ''],
    [61, 'www-authenticate', ''],
  ];
  for (const [index, name, value] of expected)
    t.same([staticNames[index], staticValues[index]], [name, value]);
  const all = Buffer.from(Array.from({ length: 61 }, (_, n) => 0x80 | (n + 1)));
  t.equal(newDecoder().decode(all, 0, all.length)?.fields.length, 122);
});

t.test('literal representations (RFC 7541 C.2)', async (t) => {
  const decoder = newDecoder();
  t.same(lines(decode(decoder, '400a637573746f6d2d6b65790d637573746f6d2d686561646572')), [
    'custom-key: custom-header',
  ]);
  t.equal(decoder.tableBytes, 55);
  t.same(lines(decode(decoder, '040c2f73616d706c652f70617468')), [':path: /sample/path']);
  const secret = decode(decoder, '100870617373776f726406736563726574');
  t.same(lines(secret), ['password: secret']);
  t.same(secret?.neverIndexed, [0]);
  t.equal(decoder.tableBytes, 55);
  t.same(lines(decode(decoder, '82')), [':method: GET']);
});

const requests = [
  [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com'],
  [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com', 'cache-control: no-cache'],
  [
    ':method: GET',
    ':scheme: https',
    ':path: /index.html',
    ':authority: www.example.com',
    'custom-key: custom-value',
  ],
];
const responses = [
  [
    ':status: 302',
    'cache-control: private',
    'date: Mon, 21 Oct 2013 20:13:21 GMT',
    'location: https://www.example.com',
  ],
  [
    ':status: 307',
    'cache-control: private',
    'date: Mon, 21 Oct 2013 20:13:21 GMT',
    'location: https://www.example.com',
  ],
  [
    ':status: 200',
    'cache-control: private',
    'date: Mon, 21 Oct 2013 20:13:22 GMT',
    'location: https://www.example.com',
    'content-encoding: gzip',
    'set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1',
  ],
];
const sequences: {
  name: string;
  tableBytes?: string;
  blocks: string[];
  lists: string[][];
  sizes: number[];
}[] = [
  {
    name: 'requests (C.3)',
    blocks: [
      '828684410f7777772e6578616d706c652e636f6d',
      '828684be58086e6f2d6361636865',
      '828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565',
    ],
    lists: requests,
    sizes: [57, 110, 164],
  },
  {
    name: 'requests with Huffman coding (C.4)',
    blocks: [
      '828684418cf1e3c2e5f23a6ba0ab90f4ff',
      '828684be5886a8eb10649cbf',
      '828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf',
    ],
    lists: requests,
    sizes: [57, 110, 164],
  },
  {
    name: 'responses with evictions (C.5)',
    tableBytes: '3fe101',
    blocks: [
      `4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54
       6e1768747470733a2f2f7777772e6578616d706c652e636f6d`,
      '4803333037c1c0bf',
      `88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d
       4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b20766572
       73696f6e3d31`,
    ],
    lists: responses,
    sizes: [222, 222, 215],
  },
  {
    name: 'responses with evictions and Huffman coding (C.6)',
    tableBytes: '3fe101',
    blocks: [
      `488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b
       97c8e9ae82ae43d3`,
      '4883640effc1c0bf',
      `88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdf
       cd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007`,
    ],
    lists: responses,
    sizes: [222, 222, 215],
  },
];

for (const { name, tableBytes, blocks, lists, sizes } of sequences) {
  t.test(`RFC 7541 ${name}`, async (t) => {
    const decoder = newDecoder();
    if (tableBytes) t.same(lines(decode(decoder, tableBytes)), [], 'a block of nothing but a size update');
    for (const [nth, block] of blocks.entries()) {
      t.same(lines(decode(decoder, block)), lists[nth], decoder.error);
      t.equal(decoder.tableBytes, sizes[nth]);
    }
  });
}

t.test('the decoder refuses what the RFC forbids', async (t) => {
  const bad: Record<string, [why: RegExp, block: string]> = {
    'index 0': [/index 0/, '80'],
    'an index beyond the tables': [/beyond/, 'be'],
    'a large index beyond the tables': [/beyond/, 'ff8001'],
    'a name index beyond the tables': [/beyond/, '7e0161'],
    'an index cut short': [/within an integer/, 'ff'],
    'an index cut short later': [/within an integer/, 'ff80'],
    'an index that goes on for ever': [/too large/, 'ff8080808080808080808000'],
    'an index of 2^31': [/too large/, 'ff81ffffff07'],
    'an index above 32 bits': [/too large/, 'ffffffffff7f'],
    'a literal without a name': [/before a string/, '40'],
    'a literal without a value': [/before a string/, '400161'],
    'a name cut short': [/within a string/, '400261'],
    'a value cut short': [/within a string/, '4001610a62'],
    'a length cut short': [/within an integer/, '4001617f'],
    'a length of 2^31 - 1': [/within a string/, '4001617f80ffffff07'],
    'a size update above SETTINGS': [/size update to 4097/, '3fe21f'],
    'a size update cut short': [/within an integer/, '3f'],
    'a size update after a field': [/only begin a block/, '8220'],
    'EOS in a string': [/Huffman/, '40016184ffffffff'],
    'EOS after a character': [/Huffman/, '400161851fffffffff'],
    'a whole byte of padding': [/Huffman/, '400161821fff'],
    'padding of zeros': [/Huffman/, '4001618118'],
    'padding with a zero': [/Huffman/, '400161811d'],
    'nothing but padding': [/Huffman/, '40016181ff'],
    'Huffman coding cut short within a code': [/Huffman/, '40016181fe'],
    'bad Huffman coding in a name': [/Huffman/, '4081180161'],
  };
  for (const [what, [why, block]] of Object.entries(bad)) {
    for (const before of ['', '828684']) {
      if (before && block.startsWith('3f')) continue;
      const decoder = newDecoder();
      t.equal(decode(decoder, before + block), undefined, what);
      t.match(decoder.error, why, what);
    }
  }
});

t.test('the decoder accepts what the RFC allows', async (t) => {
  t.same(lines(decode(newDecoder(), '')), [], 'an empty block');
  t.same(lines(decode(newDecoder(), '40016180')), ['a: '], 'an empty Huffman string');
  t.same(lines(decode(newDecoder(), '400161811f')), ['a: a'], 'three bits of padding');
  t.same(lines(decode(newDecoder(), '203fe11f82')), [':method: GET'], 'shrink and grow');
  t.same(lines(decode(newDecoder(), '0f0000')), ['accept-charset: '], 'an integer of exactly the prefix');
  t.same(
    lines(decode(newDecoder(), '0f8080808000 00')),
    ['accept-charset: '],
    'an integer longer than it need be',
  );
  t.same(
    lines(decode(newDecoder(), '0002c3bf01e9')),
    ['\xc3\xbf: \xe9'],
    'bytes outside ASCII, kept as they are',
  );
});

t.test('an oversize list is cut, and the tables still agree', async (t) => {
  const decoder = newDecoder(100);
  // 34 bytes each: a: 1, indexed; b: 2; c: 3, never indexed and the one too many; d: 4, indexed
  const list = decode(decoder, '4001610131 0001620132 1001630133 4001640134');
  t.same(lines(list), ['a: 1', 'b: 2']);
  t.match(list, { oversize: true, listBytes: 136, neverIndexed: undefined });
  t.same(lines(decode(decoder, 'bebf')), ['d: 4', 'a: 1'], 'what was cut entered the table all the same');
  t.equal(new HeaderList(['a', '1', 'b', '2']).listBytes, 68, 'a list made here measures itself');
});

t.test('an entry larger than the table empties it', async (t) => {
  const decoder = newDecoder();
  decode(decoder, '3f01 4001610131');
  t.equal(decoder.tableBytes, 0, 'a table of 32 bytes holds no field');
  decode(decoder, '3fe11f 4001610131');
  t.equal(decoder.tableBytes, 34);
  const large = hex(`4001627fa11f${'78'.repeat(4128)}`);
  t.equal(decoder.decode(large, 0, large.length)?.listBytes, 1 + 4128 + 32);
  t.equal(decoder.tableBytes, 0);
});

t.test('a long Huffman-coded string decodes', async (t) => {
  // Eight zeros are five bytes of zeros; 10,000 = 127 + 9873
  const block = Buffer.concat([hex('000161ff914d'), Buffer.alloc(10_000)]);
  const list = newDecoder(20_000).decode(block, 0, block.length);
  t.ok(list?.get('a') === '0'.repeat(16_000), `${list?.get('a')?.length} characters`);
});

t.test('HeaderList', async (t) => {
  const list = new HeaderList(['a', '1', 'b', '2', 'a', '3']);
  t.equal(list.get('a'), '1');
  t.equal(list.get('b'), '2');
  t.equal(list.get('1'), undefined);
  t.match(list, { shared: false, view: undefined, oversize: false });
});

t.test('literals for per-call fields', async (t) => {
  const decoder = newDecoder();
  const long = 'v'.repeat(300);
  for (const [name, value] of [
    ['grpc-timeout', '99m'],
    ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
    [':path', '/x'],
    ['www-authenticate', ''],
    ['x-obs-text', '\xe9\xff'],
    [long, long],
  ] as const) {
    const out = Buffer.alloc(1000);
    const end = writeLiteral(out, 3, name, value);
    t.equal(end - 3, literalSize(name, value), name);
    const list = decoder.decode(out, 3, end);
    t.same(list?.fields, [name, value]);
    t.equal(list?.neverIndexed, undefined);
  }
  const out = Buffer.alloc(100);
  const end = writeLiteral(out, 0, 'authorization', 'Bearer x');
  t.same(decoder.decode(out, 0, end)?.neverIndexed, [0], 'a secret is never indexed');
  t.equal(decoder.tableBytes, 0);
});
