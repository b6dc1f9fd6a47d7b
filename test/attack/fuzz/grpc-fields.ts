// The header fields and bodies of gRPC requests: mostly as they should be, and with every fault that a field can have.

import { grpcRequest, headerBlock, uint32 } from '../../../scripts/harness/h2-peer.ts';
import {
  AGENT_HEALTH_CHECK_PATH,
  PROCESS_TASK_PATH,
  STREAM_PROCESS_PATH,
} from '../../../sidecar/task/task-message.ts';
import { taskRequest } from '../../support/upstream.ts';
import type { Dice } from './dice.ts';

export type Field = [name: string, value: string];

const PATHS = [
  [30, PROCESS_TASK_PATH],
  [8, STREAM_PROCESS_PATH],
  [4, AGENT_HEALTH_CHECK_PATH],
  [3, '/grpc.health.v1.Health/Check'],
  [3, '/grpc.health.v1.Health/Watch'],
  [3, '/outrigger.v1.Tasks/Submit'],
  [2, '/outrigger.v1.Tasks/Watch'],
  [1, '/outrigger.v1.Tasks/Get'],
  [1, '/outrigger.v1.Tasks/List'],
  [1, '/outrigger.v1.Tasks/Cancel'],
  [2, '/fuzz.Unknown/Method'],
  [1, '/'],
  [1, ''],
  [1, '*'],
  [1, 'no-slash'],
  [1, `/${'a'.repeat(4_000)}/b`],
  [1, '/a\u0001b/c'],
] as const;

const TIMEOUTS = [
  '1S',
  '300m',
  '1n',
  '99999999H',
  '0S',
  '-1S',
  '1',
  'S',
  '123456789S',
  '1m ',
  '1.5S',
  '００S',
];
const TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

/** Fields that are of some use, each in forms that are right and forms that are not. */
const USEFUL: readonly (readonly [name: string, values: readonly string[]])[] = [
  ['grpc-timeout', TIMEOUTS],
  ['grpc-encoding', ['identity', 'gzip', 'deflate', 'br', '', 'gzip,gzip', 'x'.repeat(300)]],
  ['grpc-accept-encoding', ['gzip', 'identity,gzip', ',,,', 'a,'.repeat(500)]],
  ['grpc-previous-rpc-attempts', ['1', '-1', '4294967296', 'x']],
  ['traceparent', [TRACE, TRACE.toUpperCase(), '00-0-0-0', 'ff'.repeat(60), '']],
  ['tracestate', ['a=1,b=2', ','.repeat(200), 'a'.repeat(3_000)]],
  ['baggage', ['outrigger-call=1', 'a=1;b;c=%zz', ','.repeat(2_000), 'k=v,'.repeat(800)]],
  ['authorization', ['Bearer a', 'Bearer b', 'Basic', '', 'x'.repeat(9_000)]],
  ['cookie', ['a=1', 'b=2; c=3', ';'.repeat(100)]],
  ['x-api-key', ['a', 'b']],
  ['x-task-id', ['same-task', 'x'.repeat(500)]],
  ['outrigger-token-budget', ['1000', '0', '-1', '999999999', '1e9', 'NaN', '0x10', '']],
  ['outrigger-path', ['agent', 'agent/agent', 'a,'.repeat(100), '']],
  ['outrigger-attempts', ['1', '-1', 'x']],
  ['outrigger-reason', ['overloaded', 'x'.repeat(200)]],
  ['outrigger-call', ['1', 'x'.repeat(300)]],
  ['x-request-id', ['same-request', '']],
  ['x-correlation-id', ['same', 'x'.repeat(300)]],
  ['content-length', ['0', '5', '-1', '99999999999999999999', '5, 5']],
  ['x-fuzz-bin', ['AAAA', 'A', '====', 'AA==,AA', '\u00ff']],
  ['x-forwarded-client-cert', ['By=a;URI=spiffe://b', '"']],
  // Not allowed in HTTP/2 (RFC 9113, section 8.2.2), or allowed with one value only.
  ['connection', ['close', 'authorization']],
  ['transfer-encoding', ['chunked']],
  ['keep-alive', ['1']],
  ['upgrade', ['h2c']],
  ['te', ['gzip', 'trailers, gzip', '']],
  ['host', ['upstream', 'other', '']],
  [':status', ['200']],
  [':protocol', ['websocket']],
  [':unknown', ['x']],
];

/** The fields of one request, with END_STREAM or not left to the caller. */
export function requestFields(dice: Dice, path: string = dice.weighted(PATHS)): Field[] {
  const fields: Field[] = grpcRequest(path).map(([name, value]) => [name, value]);
  for (let more = dice.size(6); more > 0; more--) {
    const [name, values] = dice.pick(USEFUL);
    fields.push([name, dice.pick(values)]);
  }
  if (dice.chance(0.05)) addMany(dice, fields);
  if (dice.chance(0.12)) spoil(dice, fields);
  return fields;
}

function addMany(dice: Dice, fields: Field[]): void {
  const count = dice.size(600);
  const value = 'v'.repeat(dice.size(100));
  for (let index = 0; index < count; index++) fields.push([`x-many-${index % 50}`, value]);
  if (dice.chance(0.3)) fields.push(['x-long', 'l'.repeat(dice.size(90_000))]);
}

/** One fault in a list that was right. */
function spoil(dice: Dice, fields: Field[]): void {
  const at = dice.int(0, fields.length - 1);
  const [name, value] = fields[at]!;
  const fault = dice.pick(['drop', 'twice', 'move', 'upper', 'name', 'value', 'method'] as const);
  if (fault === 'drop') fields.splice(at, 1);
  else if (fault === 'twice') fields.splice(at, 0, [name, value]);
  else if (fault === 'move') fields.push(...fields.splice(at, 1));
  else if (fault === 'upper') fields[at] = [name.toUpperCase(), value];
  else if (fault === 'name') fields[at] = [dice.pick(['', ' ', 'a b', 'a:', '\u0000', 'x\u007f']), value];
  else if (fault === 'value')
    fields[at] = [name, dice.pick(['', ' x', 'x ', 'a\r\nb', '\u0000', '\u0001', '\u007f', '\u00ff'])];
  else fields[at] = [':method', dice.pick(['GET', 'CONNECT', 'post', '', 'OPTIONS'])];
}

/** A header block with each form that HPACK has for a literal, and, unless it is lawful, with faults of HPACK's own now and then. */
export function hpackBlock(dice: Dice, fields: readonly Field[], isLawful = false): Buffer {
  const parts: Buffer[] = [];
  if (!isLawful && dice.chance(0.05)) parts.push(sizeUpdate(dice));
  for (const field of fields) {
    const bytes = headerBlock([field]);
    bytes[0] = dice.pick([0x00, 0x00, 0x10, 0x40]);
    parts.push(bytes);
  }
  if (!isLawful && dice.chance(0.02)) parts.push(strangeHpack(dice));
  return Buffer.concat(parts);
}

function sizeUpdate(dice: Dice): Buffer {
  return dice.pick([
    Buffer.from([0x20]),
    Buffer.from([0x3f, 0xe1, 0x1f]),
    Buffer.from([0x3f, 0xe1, 0xff, 0x7f]),
  ]);
}

function strangeHpack(dice: Dice): Buffer {
  const kind = dice.pick(['index 0', 'beyond', 'long integer', 'huffman', 'references'] as const);
  if (kind === 'index 0') return Buffer.from([0x80]);
  if (kind === 'beyond') return Buffer.from([0xff, 0x80 | dice.int(0, 127), dice.int(0, 127)]);
  if (kind === 'long integer') return Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]);
  if (kind === 'huffman')
    return Buffer.concat([Buffer.from([0, 0x80 | 20]), dice.bytes(20), Buffer.from([0x81, 0xff])]);
  return references(dice, 200);
}

/** A field in the table and up to `most` references to it of one byte each: little to send, and much to hold. */
export function references(dice: Dice, most: number): Buffer {
  const entry = headerBlock([['x-entry', 'e'.repeat(dice.pick([0, 30, 3_000]))]]);
  entry[0] = 0x40;
  return Buffer.concat([entry, Buffer.alloc(dice.size(most), 0xbe)]);
}

const INPUTS = [
  'echo hello',
  'echo ',
  'sleep 0.01',
  'fail INTERNAL',
  'fail UNAVAILABLE',
  'raise',
  'large 20000',
];

/** What follows a request's head: messages with gRPC's prefix, whose length, flag or content may lie. */
export function requestBody(dice: Dice): Buffer {
  const message = requestMessage(dice);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  if (dice.chance(0.15)) {
    const lie = dice.pick(['long', 'short', 'endless', 'flag', 'promise'] as const);
    if (lie === 'long') uint32(message.length + dice.size(100_000)).copy(prefix, 1);
    else if (lie === 'short') uint32(Math.max(0, message.length - 1)).copy(prefix, 1);
    else if (lie === 'endless') uint32(0xffff_ffff).copy(prefix, 1);
    else if (lie === 'promise') uint32(65_520).copy(prefix, 1);
    else prefix[0] = dice.pick([1, 2, 255]);
  }
  const body = Buffer.concat([prefix, message]);
  return dice.chance(0.05) ? Buffer.concat([body, body]) : body;
}

function requestMessage(dice: Dice): Buffer {
  if (dice.chance(0.05)) return dice.bytes(dice.size(2_000));
  const id = dice.chance(0.3) ? `shared-${dice.int(0, 3)}` : `fuzz-${dice.seed()}`;
  const long = dice.chance(0.05) ? `echo ${'y'.repeat(dice.size(300_000))}` : dice.pick(INPUTS);
  const message = taskRequest({ id, type: dice.pick(['echo', 'code', '', 'é']), input: long });
  return dice.chance(0.1) ? dice.damage(message) : message;
}
