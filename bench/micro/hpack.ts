/**
 * Measures coding of header blocks. The blocks are those of a gRPC call through a relay: a
 * request of nine fields that repeat and, in most rows, one that is new in each call.
 */
import { GRPC_FIELD_NAMES } from '../../sidecar/grpc/field-names.ts';
import { HpackDecoder } from '../../sidecar/http2/hpack/decoder.ts';
import { HpackEncoder, writeLiteral } from '../../sidecar/http2/hpack/encoder.ts';
import { HeaderList } from '../../sidecar/http2/hpack/header-list.ts';
import { huffmanDecode } from '../../sidecar/http2/hpack/huffman.ts';
import { IndexedTable } from '../../sidecar/http2/hpack/indexed-table.ts';
import { writeLiteralField } from '../../sidecar/http2/hpack/literal.ts';
import { writeInteger } from '../../sidecar/http2/hpack/primitives.ts';
import { measure } from './measure.ts';

const BLOCKS = 1024;

const repeated = [
  ...[':method', 'POST', ':scheme', 'http', ':path', '/agent.AgentService/ProcessTask'],
  ...[
    ':authority',
    'research-agent:50051',
    'content-type',
    'application/grpc',
    'user-agent',
    'grpc-go/1.76.0',
  ],
  ...['te', 'trailers', 'x-tenant', 'acme', 'x-region', 'eu-west-1'],
];
const timeout = (nth: number) => ['grpc-timeout', `${9_990_000 + nth}u`];
const traceparent = (nth: number) => [
  'traceparent',
  `00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920${1000 + nth}-01`,
];
const listsOf = (perCall: (nth: number) => string[], shared: boolean) =>
  Array.from({ length: BLOCKS }, (_, nth) => {
    const list = new HeaderList([...repeated, ...perCall(nth)]);
    list.shared = shared;
    return list;
  });

/** Decodes a sequence of blocks over and over, each time with a new decoder that `first` has prepared. */
function measureDecoder(name: string, first: Buffer, blocks: Buffer[]): void {
  measure(name, () => {
    const decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: 16_384 });
    decoder.decode(first, 0, first.length);
    for (const block of blocks) {
      if (decoder.decode(block, 0, block.length) === undefined) throw new Error(decoder.error);
    }
    return blocks.length;
  });
}

function measureEncoder(name: string, lists: HeaderList[]): void {
  const encoder = new HpackEncoder({ knownNames: GRPC_FIELD_NAMES });
  measure(name, () => {
    for (const list of lists) encoder.encode(list);
    return lists.length;
  });
}

/** How a relay sends: the repeated fields as one block, the call's own behind it as literals. */
function relayBlocks(perCall: (nth: number) => string[]): { first: Buffer; blocks: Buffer[] } {
  const encoder = new HpackEncoder({ knownNames: GRPC_FIELD_NAMES });
  const list = new HeaderList(repeated);
  list.shared = true;
  encoder.encode(list);
  const first = Buffer.from(encoder.block.subarray(0, encoder.blockEnd));
  encoder.encode(list);
  const blocks = Array.from({ length: BLOCKS }, (_, nth) => {
    const out = Buffer.alloc(500);
    let end = encoder.block.copy(out, 0, 0, encoder.blockEnd);
    const fields = perCall(nth);
    for (let i = 0; i < fields.length; i += 2) end = writeLiteral(out, end, fields[i]!, fields[i + 1]!);
    return Buffer.from(out.subarray(0, end));
  });
  return { first, blocks };
}

/** How grpc-go sends: every pair that is not in the tables is inserted, so each call's timeout pushes others out. */
function indexAllBlocks(lists: HeaderList[]): Buffer[] {
  const table = new IndexedTable();
  return lists.map(({ fields }) => {
    const out = Buffer.alloc(500);
    let at = 0;
    for (let i = 0; i < fields.length; i += 2) {
      const [name, value] = [fields[i]!, fields[i + 1]!];
      const known = table.find(name);
      const index = known ? table.indexOfPair(known, value) : 0;
      if (index !== 0) {
        at = writeInteger(out, at, 0x80, 0x7f, index);
        continue;
      }
      at = writeLiteralField(out, at, 0x40, 0x3f, known ? table.indexOfName(known) : 0, name, value);
      table.insert(name, value);
    }
    return Buffer.from(out.subarray(0, at));
  });
}

const none = Buffer.alloc(0);
const same = relayBlocks(() => []);
measureDecoder('decode 9 repeated fields (from the memo)', same.first, same.blocks);
const withTimeout = relayBlocks(timeout);
measureDecoder('decode 9 and a new literal grpc-timeout', withTimeout.first, withTimeout.blocks);
const withBoth = relayBlocks((nth) => [...timeout(nth), ...traceparent(nth)]);
measureDecoder('decode 9 and a new literal grpc-timeout and traceparent', withBoth.first, withBoth.blocks);
measureDecoder('decode 9 and a new indexed grpc-timeout', none, indexAllBlocks(listsOf(timeout, false)));
measureEncoder(
  'encode 9 repeated fields (from the cache)',
  new Array(BLOCKS).fill(listsOf(() => [], true)[0]),
);
measureEncoder(
  'encode 9 fields, not from the cache',
  listsOf(() => [], false),
);
measureEncoder('encode 9 fields and a new traceparent', listsOf(traceparent, false));

// "no-cache" and "https://www.example.com" from RFC 7541 C.6: about what header values are made of
const coded = Buffer.from('a8eb10649cbf9d29ad171863c78f0b97c8e9ae82ae43d3', 'hex');
const decoded = Buffer.alloc(64);
measure(`Huffman decoding of ${coded.length} bytes`, () => {
  for (let i = 0; i < BLOCKS; i++) {
    if (huffmanDecode(coded, 0, 6, decoded) + huffmanDecode(coded, 6, coded.length, decoded) !== 31) {
      throw new Error('the decoded string differs');
    }
  }
  return BLOCKS;
});
