// The field reader against protobufjs, and on malformed bytes.
import { join } from 'node:path';
import { loadSync, type MethodDefinition } from '@grpc/proto-loader';
import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { bytesField, FieldReader, stringField, varintField, WireType } from './protobuf.ts';
import { readTaskKey, readTaskOutcome } from './task-message.ts';

const service = loadSync(join(import.meta.dirname, '../../proto/agent_service.proto'), { keepCase: true })[
  'agent.AgentService'
]!;
const { requestSerialize, responseSerialize } = service['ProcessTask' as never] as MethodDefinition<
  object,
  object
>;

const text = fc.string({ unit: 'grapheme', maxLength: 40 });
const taskRequest = fc.record({
  task_id: text,
  correlation_id: text,
  agent_type: text,
  input: fc.string({ maxLength: 3_000 }),
  metadata: fc.dictionary(text, text, { maxKeys: 5 }),
  max_tokens: fc.integer(),
  temperature: fc.float({ noNaN: true }),
});
const taskResponse = fc.record({
  task_id: text,
  output: fc.string({ maxLength: 3_000 }),
  status: fc.nat(3),
  tokens_used: fc.integer(),
  latency_ms: fc.maxSafeInteger(),
  tool_calls: fc.array(fc.record({ tool_name: text, arguments: text, result: text }), { maxLength: 4 }),
});

t.test('a text is compared with the last one, and read where it differs', async (t) => {
  const last = fc.oneof(text, fc.constantFrom('research', 'r\u00e9search', 'researcher'));
  fc.assert(
    fc.property(last, fc.oneof(last, fc.uint8Array({ maxLength: 8 })), (last, value) => {
      const bytes = typeof value === 'string' ? Buffer.from(value) : Buffer.from(value);
      const field = bytesField(3, bytes);
      const reader = new FieldReader(field, 0, field.length);
      return reader.next() && reader.text(last) === bytes.toString('utf8');
    }),
    { numRuns: 2_000 },
  );
  // Not UTF-8: the byte is the code of the letter, and no letter itself.
  const latin = bytesField(3, Buffer.from('caf\u00e9', 'latin1'));
  const reader = new FieldReader(latin, 0, latin.length);
  reader.next();
  t.equal(reader.text('caf\u00e9'), 'caf\ufffd');
});

t.test('ids and types are read from the bytes of protobufjs', async (t) => {
  fc.assert(
    fc.property(taskRequest, fc.nat(50), (task, offset) => {
      const message = requestSerialize(task);
      const buffer = Buffer.concat([Buffer.alloc(offset, 0xff), message, Buffer.alloc(7, 0xff)]);
      const { taskId, agentType } = readTaskKey(buffer, offset, offset + message.length);
      return taskId === task.task_id && agentType === task.agent_type;
    }),
  );
  t.pass('for random tasks, wherever they lie in a buffer');
});

t.test('the beginning of a task gives its id', async (t) => {
  const task = { task_id: 'task-1', agent_type: 'code', input: 'x'.repeat(100_000), metadata: { a: 'b' } };
  const message = requestSerialize(task);
  const expected = { taskId: 'task-1', correlationId: '', agentType: 'code' };
  for (const bytes of [14, 16, 20, 65_531, message.length - 1])
    t.strictSame(readTaskKey(message, 0, bytes), expected, `${bytes} bytes`);
  t.strictSame(
    readTaskKey(message, 0, 10),
    { taskId: 'task-1', correlationId: '', agentType: '' },
    'as far as it goes',
  );
});

t.test('status and tokens are read from the bytes of protobufjs', async (t) => {
  fc.assert(
    fc.property(taskResponse, (response) => {
      const message = responseSerialize(response);
      const outcome = readTaskOutcome(message, 0, message.length);
      return outcome.status === response.status && outcome.tokensUsed === Math.max(response.tokens_used, 0);
    }),
  );
  t.pass('for random responses');
});

t.test('bytes that are no message are read to their end without an exception', async (t) => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    // Damaged messages reach more code than random bytes.
    fc.tuple(taskRequest, fc.nat(), fc.nat(255)).map(([task, at, value]) => {
      const message = Buffer.from(requestSerialize(task));
      if (message.length > 0) message[at % message.length] = value;
      return message;
    }),
  );
  fc.assert(
    fc.property(bytes, (input) => {
      const buffer = Buffer.from(input);
      readTaskKey(buffer, 0, buffer.length);
      readTaskOutcome(buffer, 0, buffer.length);
      const reader = new FieldReader(buffer, 0, buffer.length);
      let fields = 0;
      while (reader.next()) {
        fields++;
        if (reader.wireType === WireType.BYTES && reader.valueEnd > buffer.length) return false;
      }
      return fields <= buffer.length && !reader.next();
    }),
    { numRuns: 2_000 },
  );
  t.pass('for noise and damaged messages');
});

t.test('the reader skips every wire type', async (t) => {
  const message = Buffer.concat([
    varintField(9, 2 ** 40),
    Buffer.from([0x51, 1, 2, 3, 4, 5, 6, 7, 8]),
    Buffer.from([0x5d, 1, 2, 3, 4]),
    bytesField(200_000, Buffer.alloc(300)),
    stringField(1, 'first'),
    stringField(1, 'last'),
  ]);
  const reader = new FieldReader(message, 0, message.length);
  const seen: number[] = [];
  while (reader.next()) seen.push(reader.field, reader.wireType);
  t.strictSame(seen, [9, 0, 10, 1, 11, 5, 200_000, 2, 1, 2, 1, 2]);
  t.equal(reader.malformed, false);
  t.equal(readTaskKey(message, 0, message.length).taskId, 'last', 'the last one wins');
});

t.test('the reader distinguishes malformed input from the end', async (t) => {
  const cases: [what: string, bytes: number[]][] = [
    ['a varint without an end', [0x08, 0x80]],
    ['a varint of eleven bytes', [0x08, ...Array(10).fill(0xff), 0x01]],
    ['a length beyond the end', [0x0a, 5, 1, 2]],
    ['a length beyond everything', [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1]],
    ['field 0', [0x00, 1]],
    ['a group', [0x0b]],
    ['four bytes that are three', [0x0d, 1, 2, 3]],
  ];
  for (const [what, bytes] of cases) {
    const reader = new FieldReader(Buffer.from(bytes), 0, bytes.length);
    t.equal(reader.next(), false, what);
    t.equal(reader.malformed, true, what);
  }
  t.equal(new FieldReader(Buffer.alloc(0), 0, 0).malformed, false);
});

t.test('a text that is too long for a key counts as none', async (t) => {
  const message = Buffer.concat([stringField(1, 'x'.repeat(257)), stringField(3, 'y'.repeat(256))]);
  t.strictSame(readTaskKey(message, 0, message.length), {
    taskId: '',
    correlationId: '',
    agentType: 'y'.repeat(256),
  });
});
