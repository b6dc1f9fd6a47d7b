// The scanner on messages that protobufjs wrote: every order of fields, every chunking, broken bytes.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { loadSync, type MessageTypeDefinition } from '@grpc/proto-loader';
import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { OutcomeScanner } from './outcome-scanner.ts';

interface TaskResponse {
  task_id: string;
  output: string;
  status: number;
  tokens_used: number;
  latency_ms: number;
  tool_calls: { tool_name: string; arguments: string; result: string; latency_ms: number }[];
}

const definition = loadSync('agent_service.proto', {
  includeDirs: [join(import.meta.dirname, '../../proto')],
  keepCase: true,
  longs: Number,
  enums: Number,
  defaults: true,
});
const taskResponse = definition['agent.TaskResponse'] as MessageTypeDefinition<TaskResponse, TaskResponse>;
const encode = (fields: Partial<TaskResponse>): Buffer => taskResponse.serialize(fields as TaskResponse);

function frame(message: Buffer, flag = 0): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** Feeds the bytes as slices of one larger buffer, as they arrive from a socket. */
function scan(bytes: Buffer, cuts: readonly number[] = [], encoding = ''): OutcomeScanner {
  const scanner = new OutcomeScanner();
  scanner.encoding = encoding;
  const shifted = Buffer.concat([Buffer.from('other frames'), bytes, Buffer.from([0x18, 2])]);
  const base = 'other frames'.length;
  let at = 0;
  for (const cut of [...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length]) {
    scanner.feed(shifted, base + at, base + cut);
    at = cut;
  }
  return scanner;
}

const outcomeOf = ({ seen, status, tokensUsed }: OutcomeScanner) => ({ seen, status, tokensUsed });
const UNKNOWN = { seen: false };

const text = fc.string({ unit: 'binary', maxLength: 300 });
const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const toolCall = fc.record({ tool_name: text, arguments: text, result: text, latency_ms: fc.nat() });
/** One field as protobufjs writes it, or an unknown one; concatenated messages merge. */
const field = fc.oneof(
  fc.record({ task_id: text }).map(encode),
  fc.record({ output: text }).map(encode),
  fc.record({ status: fc.oneof(fc.constantFrom(0, 1, 2, 3), int32) }).map(encode),
  fc.record({ tokens_used: int32 }).map(encode),
  fc.record({ latency_ms: fc.maxSafeInteger() }).map(encode),
  fc.record({ tool_calls: fc.array(toolCall, { maxLength: 3 }) }).map(encode),
  fc.constant(Buffer.from([0x3d, 0x18, 2, 0x20, 7])), // fixed32 field 7 whose value looks like fields 3 and 4
  fc.constant(Buffer.from([0x41, 0x18, 2, 0x20, 7, 0x18, 2, 0x20, 7])), // fixed64 field 8, alike
  fc.constant(Buffer.from([0x4b, 0x18, 2, 0x53, 0x20, 7, 0x54, 0x4c])), // group 9 with field 3, in it group 10
  fc.constant(Buffer.from([0xfa, 0xff, 0xff, 0xff, 0x0f, 2, 0x18, 2])), // the highest field number, two bytes
);
const cuts = fc.array(fc.nat(3_000), { maxLength: 40 });

t.test('the scanner finds what protobufjs decodes, in any order of fields and any chunks', async (t) => {
  const property = fc.property(fc.array(field, { maxLength: 12 }), cuts, (fields, cuts) => {
    const message = Buffer.concat(fields);
    const { status, tokens_used: tokensUsed } = taskResponse.deserialize(message);
    assert.deepEqual(outcomeOf(scan(frame(message), cuts)), { seen: true, status, tokensUsed });
  });
  t.doesNotThrow(() => fc.assert(property, { numRuns: 1_000 }));
});

t.test('the scanner reads byte by byte, and past megabytes of output', async (t) => {
  const message = encode({ task_id: 'a', output: 'é'.repeat(300_000), status: 2, tokens_used: 70_000 });
  const bytes = frame(message);
  const everyByte = Array.from(bytes.keys());
  t.same(outcomeOf(scan(bytes, everyByte)), { seen: true, status: 2, tokensUsed: 70_000 });
  const large = frame(
    encode({ output: 'x'.repeat(10 * 1024 * 1024 - 64), status: 3, tokens_used: 2 ** 31 - 1 }),
  );
  const frames = Array.from({ length: large.length >> 14 }, (_, i) => i << 14);
  t.same(outcomeOf(scan(large, frames)), { seen: true, status: 3, tokensUsed: 2 ** 31 - 1 });
});

t.test('an empty message is a task that succeeded; half a message says nothing', async (t) => {
  t.same(outcomeOf(scan(frame(Buffer.alloc(0)))), { seen: true, status: 0, tokensUsed: 0 });
  const bytes = frame(encode({ output: 'half', status: 2, tokens_used: 5 }));
  for (let length = 0; length < bytes.length; length++) {
    t.match(outcomeOf(scan(bytes.subarray(0, length))), UNKNOWN, `${length} of ${bytes.length} bytes`);
  }
  const scanner = scan(bytes);
  scanner.feed(frame(encode({ status: 1, tokens_used: 9 })), 0, 9);
  t.same(outcomeOf(scanner), { seen: true, status: 2, tokensUsed: 5 }, 'bytes behind the first message');
});

t.test('a compressed message is read like any other, however it is cut', async (t) => {
  const output = 'what the model said, and said again. '.repeat(50);
  const message = encode({ output, status: 2, tokens_used: 5 });
  const packed = { gzip: gzipSync, deflate: deflateSync, zstd: zstdCompressSync, br: brotliCompressSync };
  for (const [encoding, pack] of Object.entries(packed)) {
    const bytes = frame(pack(message), 1);
    const read = { seen: true, status: 2, tokensUsed: 5 };
    t.same(outcomeOf(scan(bytes, [], encoding)), read, encoding);
    const everywhere = Array.from(bytes, (_, at) => at);
    t.same(outcomeOf(scan(bytes, everywhere, encoding)), read, `${encoding}, byte by byte`);
    for (let cut = 1; cut < bytes.length; cut++)
      assert.deepEqual(outcomeOf(scan(bytes, [cut], encoding)), read, `${encoding}, cut at ${cut}`);
    for (let length = 0; length < bytes.length; length++)
      assert.equal(
        scan(bytes.subarray(0, length), [], encoding).seen,
        false,
        `${length} bytes of ${encoding}`,
      );
    const scanner = scan(bytes, [], encoding);
    scanner.feed(frame(encode({ status: 1 })), 0, 7);
    t.same(outcomeOf(scanner), read, 'bytes behind the first message');
    t.match(outcomeOf(scan(frame(pack(message.subarray(0, -1)), 1), [], encoding)), UNKNOWN, 'a cut message');
    t.same(outcomeOf(scan(frame(message), [], encoding)), read, 'the flag says what it is, not the encoding');
  }
});

t.test('an unreadable compressed message has no known outcome', async (t) => {
  const message = encode({ status: 2, tokens_used: 5 });
  const gzip = gzipSync(message);
  t.match(outcomeOf(scan(frame(gzip, 1))), UNKNOWN, 'without an encoding');
  t.match(outcomeOf(scan(frame(gzip, 1), [], 'identity')), UNKNOWN);
  t.match(outcomeOf(scan(frame(gzip, 1), [], 'snappy')), UNKNOWN);
  t.match(outcomeOf(scan(frame(gzip, 1), [], 'deflate')), UNKNOWN, 'by another one');
  t.match(outcomeOf(scan(frame(gzip, 2), [], 'gzip')), UNKNOWN, 'with a flag that gRPC does not know');
  t.match(outcomeOf(scan(frame(message, 1), [], 'gzip')), UNKNOWN, 'that is not compressed');
  t.match(outcomeOf(scan(frame(Buffer.alloc(0), 1), [], 'gzip')), UNKNOWN, 'that is empty');
  t.match(outcomeOf(scan(frame(Buffer.concat([gzip, gzip.subarray(0, 9)]), 1), [], 'gzip')), UNKNOWN);
  const two = Buffer.concat([gzipSync(message.subarray(0, 3)), gzipSync(message.subarray(3))]);
  t.same(outcomeOf(scan(frame(two, 1), [], 'gzip')), { seen: true, status: 2, tokensUsed: 5 }, 'two members');

  // The number of input bytes and the number of inflated bytes bound the reading.
  const failed = (outputBytes: number) => encode({ output: 'x'.repeat(outputBytes), status: 2 });
  t.match(outcomeOf(scan(frame(gzipSync(failed(1_000_000)), 1), [], 'gzip')), { seen: true, status: 2 });
  t.match(outcomeOf(scan(frame(gzipSync(failed(1_100_000)), 1), [], 'gzip')), UNKNOWN, 'a bomb');
  const noise = encode({ output: randomBytes(60_000).toString('base64'), status: 2 });
  t.match(outcomeOf(scan(frame(gzipSync(noise), 1), [9_000, 50_000], 'gzip')), { seen: true, status: 2 });
  const more = encode({ output: randomBytes(80_000).toString('base64'), status: 2 });
  t.match(outcomeOf(scan(frame(gzipSync(more), 1), [9_000, 50_000], 'gzip')), UNKNOWN);
});

t.test('malformed messages have no known outcome', async (t) => {
  const cases: Record<string, number[]> = {
    'field number 0': [0x00, 0x01],
    'wire type 6': [0x1e, 0x01],
    'wire type 7': [0x1f, 0x01],
    'a string that is longer than the message': [0x12, 0x05, 0x61],
    'a length of 2^31': [0x12, 0x80, 0x80, 0x80, 0x80, 0x08],
    'a length of 2^32 + 1': [0x12, 0x81, 0x80, 0x80, 0x80, 0x10, 0x61],
    'fixed32 that is cut': [0x3d, 1, 2, 3],
    'fixed64 that is cut': [0x41, 1, 2, 3, 4, 5, 6, 7],
    'a tag that is cut': [0x18, 0x02, 0x98],
    'a tag without its value': [0x18],
    'a value that is cut': [0x18, 0x80],
    'a varint of eleven bytes': [0x18, ...new Array(10).fill(0x80), 0],
    'a tag beyond 32 bits': [0x98, 0x80, 0x80, 0x80, 0x10, 0x02],
    'a group that does not end': [0x4b, 0x18, 0x02],
    'the end of a group that did not begin': [0x4c],
  };
  for (const [name, bytes] of Object.entries(cases)) {
    const message = frame(Buffer.from(bytes));
    t.match(outcomeOf(scan(message)), UNKNOWN, name);
    t.match(outcomeOf(scan(message, Array.from(message.keys()))), UNKNOWN, `${name}, byte by byte`);
  }
});

t.test('random bytes cause no exception, and chunks change nothing', async (t) => {
  const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array));
  const property = fc.property(bytes, fc.boolean(), cuts, (random, framed, cuts) => {
    const message = framed ? frame(random) : random;
    assert.deepEqual(outcomeOf(scan(message, cuts)), outcomeOf(scan(message)));
  });
  t.doesNotThrow(() => fc.assert(property, { numRuns: 2_000 }));
});
