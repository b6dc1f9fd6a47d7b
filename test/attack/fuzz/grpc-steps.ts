// The steps that a conversation with a gRPC listener is made of: what a client may do, and what none may.
import {
  errorCode,
  flag,
  frame,
  frameType,
  preface,
  settings,
  uint32,
} from '../../../scripts/harness/h2-peer.ts';
import type { Dice } from './dice.ts';
import { hpackBlock, references, requestBody, requestFields } from './grpc-fields.ts';

const MAX_FRAME_BYTES = 16_384;
/** A block, or a message, of one byte a frame would be nothing but frames. */
const MAX_FRAMES = 300;
const INTERESTING = [0, 1, 100, 16_383, 16_384, 65_535, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/** A conversation, as far as its own end knows it. */
export class Talk {
  readonly dice: Dice;
  /** The path of every request; any when undefined. */
  readonly path: string | undefined;
  /** It breaks no rule of its connection, though those of its streams it may: so it lasts, and calls get through. */
  readonly isLawful: boolean;
  nextId = 1;
  readonly streams: number[] = [];
  /** Those to which more may be sent. */
  readonly open = new Set<number>();

  constructor(dice: Dice, path: string | undefined) {
    this.dice = dice;
    this.path = path;
    this.isLawful = dice.chance(0.65);
  }

  begin(): number {
    const id = this.nextId;
    this.nextId += this.isLawful || this.dice.chance(0.97) ? 2 : this.dice.pick([1, 0, 3, 1_000]);
    this.streams.push(id);
    this.open.add(id);
    return id;
  }

  /** Mostly a stream that was opened. */
  anyStream(): number {
    const { dice, streams } = this;
    if (streams.length > 0 && dice.chance(0.9)) return dice.pick(streams.slice(-20));
    return dice.pick([0, 1, 2, this.nextId, this.nextId + 100, 0x7fff_ffff]);
  }

  /** In a lawful conversation one that may be sent to; undefined where there is none. */
  target(): number | undefined {
    if (!this.isLawful) return this.anyStream();
    return this.open.size === 0 ? undefined : this.dice.pick([...this.open].slice(-20));
  }
}

/** What is sent; nothing where there is nothing to do it to. */
type Step = (talk: Talk) => Buffer;

const nothing = Buffer.alloc(0);

/** Does it to a stream that may be sent to. */
const toStream =
  (make: (talk: Talk, id: number) => Buffer): Step =>
  (talk) => {
    const id = talk.target();
    return id === undefined ? nothing : make(talk, id);
  };

const openCall: Step = (talk) => {
  const { dice } = talk;
  const id = talk.begin();
  const block = hpackBlock(dice, requestFields(dice, talk.path), talk.isLawful);
  const endStream = dice.chance(0.08);
  const head = headers(talk, id, block, endStream);
  return dice.chance(0.8) && !(talk.isLawful && endStream) ? Buffer.concat([head, body(talk, id)]) : head;
};

/** A request whose head is small to send and large to hold. */
const bomb: Step = (talk) => {
  const { dice } = talk;
  const id = talk.begin();
  const fields = hpackBlock(dice, requestFields(dice, talk.path), true);
  return headers(talk, id, Buffer.concat([fields, references(dice, 2_500)]), false);
};

/** HEADERS, cut at any place into CONTINUATIONs, with padding and a priority now and then. */
function headers(talk: Talk, id: number, block: Buffer, endStream: boolean): Buffer {
  const { dice } = talk;
  if (endStream) talk.open.delete(id);
  const most = dice.chance(0.9) ? MAX_FRAME_BYTES - 300 : 1 + Math.max(dice.size(2_000), block.length >> 7);
  const parts: Buffer[] = [];
  for (let at = 0; at === 0 || at < block.length; at += most) {
    let payload = block.subarray(at, at + most);
    let flags = at + most >= block.length ? flag.endHeaders : 0;
    if (at > 0) {
      parts.push(frame(frameType.continuation, flags, id, payload));
      continue;
    }
    if (endStream) flags |= flag.endStream;
    if (dice.chance(0.05)) {
      flags |= flag.priority;
      payload = Buffer.concat([uint32(dice.pick([0, 7])), Buffer.from([dice.int(0, 255)]), payload]);
    }
    if (dice.chance(0.05)) {
      flags |= flag.padded;
      const padding = dice.int(0, 255);
      payload = Buffer.concat([Buffer.from([padding]), payload, Buffer.alloc(padding)]);
    }
    parts.push(frame(frameType.headers, flags, id, payload));
  }
  return Buffer.concat(parts);
}

/** Messages in DATA frames of any size; END_STREAM behind most. */
function body(talk: Talk, id: number): Buffer {
  const { dice } = talk;
  const bytes = requestBody(dice);
  const end = dice.chance(0.9);
  if (end) talk.open.delete(id);
  const small = Math.max(1 + dice.size(1_000), Math.ceil(bytes.length / MAX_FRAMES));
  const most = dice.chance(0.85) ? MAX_FRAME_BYTES : Math.min(small, MAX_FRAME_BYTES);
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += most) {
    const isLast = at + most >= bytes.length;
    parts.push(frame(frameType.data, isLast && end ? flag.endStream : 0, id, bytes.subarray(at, at + most)));
  }
  return Buffer.concat(parts);
}

const repeat = (count: number, make: (index: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, index) => make(index)));

const window = (id: number, increment: number): Buffer =>
  frame(frameType.windowUpdate, 0, id, uint32(increment));

const reset = (talk: Talk, id: number): Buffer => {
  talk.open.delete(id);
  return frame(frameType.rstStream, 0, id, uint32(talk.dice.pick(Object.values(errorCode))));
};

/** One byte a frame, alone or with windows that open by one byte each. */
const tinyData = (talk: Talk, id: number): Buffer => {
  const withWindows = talk.dice.chance(0.5);
  const byte = frame(frameType.data, 0, id, Buffer.alloc(1));
  return repeat(talk.dice.size(300), () =>
    withWindows ? Buffer.concat([byte, window(id, 1), window(0, 1)]) : byte,
  );
};

/** Calls that are begun and taken back at once. */
const beginAndReset: Step = (talk) =>
  repeat(talk.dice.size(60), () => {
    const call = openCall(talk);
    return Buffer.concat([call, reset(talk, talk.streams.at(-1)!)]);
  });

/** Of any value, or of those that are allowed. */
export function anySettings(dice: Dice, isLawful = false): Buffer {
  const allowed: readonly (readonly [id: number, values: readonly number[]])[] = [
    [1, [0, 1, 4_096, 65_536]],
    [3, [0, 1, 100, 0xffff_ffff]],
    [4, [0, 1, 100, 65_535, 1_000_000, 0x7fff_ffff]],
    [5, [16_384, 65_536, 16_777_215]],
    [6, [0, 100, 65_536, 0xffff_ffff]],
    [0xfff, [1]],
    [61_607, [0, 1, 65_535]],
  ];
  const entries = Array.from({ length: dice.size(8) }, (): [number, number] => {
    const [id, values] = dice.pick(allowed);
    return isLawful ? [id, dice.pick(values)] : [dice.pick([2, 8, id]), dice.pick(INTERESTING)];
  });
  return settings(...entries);
}

/** A frame whose header promises more than follows, or more than is allowed. */
function tooLong(dice: Dice): Buffer {
  const bytes = frame(dice.int(0, 9), 0, dice.int(0, 5), dice.bytes(dice.size(100)));
  bytes.writeUIntBE(dice.pick([16_385, 0xff_ffff, bytes.length, 0]), 0, 3);
  return bytes;
}

const anyFrame = (talk: Talk, least: number, most: number): Buffer => {
  const { dice } = talk;
  return frame(dice.int(least, most), dice.int(0, 255), talk.anyStream(), dice.bytes(dice.size(64)));
};

const LAWFUL: readonly (readonly [weight: number, step: Step])[] = [
  [16, openCall],
  [6, toStream((talk, id) => body(talk, id))],
  [2, toStream(tinyData)],
  [4, toStream(reset)],
  [3, toStream((talk, id) => window(id, talk.dice.pick([1, 100, 65_535, 1_000_000])))],
  [3, ({ dice }) => window(0, dice.pick([1, 100, 65_535, 1_000_000]))],
  [2, ({ dice }) => frame(frameType.ping, 0, 0, dice.bytes(8))],
  [2, ({ dice }) => anySettings(dice, true)],
  [1, ({ dice }) => frame(dice.int(20, 255), 0, 0, dice.bytes(dice.size(100)))],
  [1, bomb],
  [1, beginAndReset],
  [
    1,
    toStream((talk, id) => {
      talk.open.delete(id);
      return frame(frameType.data, flag.endStream, id);
    }),
  ],
];

const LAWLESS: readonly (readonly [weight: number, step: Step])[] = [
  ...LAWFUL,
  [2, (talk) => window(talk.anyStream(), talk.dice.pick(INTERESTING))],
  [1, ({ dice }) => anySettings(dice)],
  [1, ({ dice }) => frame(frameType.settings, flag.ack, 0, dice.bytes(dice.pick([0, 0, 1])))],
  [
    1,
    ({ dice, nextId }) =>
      frame(frameType.goaway, 0, 0, Buffer.concat([uint32(nextId), uint32(dice.int(0, 14))])),
  ],
  [1, (talk) => frame(frameType.priority, 0, talk.anyStream(), talk.dice.bytes(talk.dice.pick([5, 5, 4])))],
  [1, (talk) => frame(frameType.pushPromise, flag.endHeaders, talk.anyStream(), talk.dice.bytes(20))],
  [1, (talk) => anyFrame(talk, 10, 255)],
  [1, (talk) => anyFrame(talk, frameType.continuation, frameType.continuation)],
  [2, (talk) => anyFrame(talk, 0, 9)],
  [1, ({ dice }) => tooLong(dice)],
  [1, ({ dice }) => dice.bytes(dice.size(200))],
  // Trailers of a request, which gRPC does not know.
  [1, (talk) => headers(talk, talk.anyStream(), hpackBlock(talk.dice, [['x-trailer', 'x']]), true)],
];

/** The bytes of the next step. */
export function nextStep(talk: Talk): Buffer {
  const { dice, isLawful } = talk;
  const bytes = dice.weighted(isLawful ? LAWFUL : LAWLESS)(talk);
  return !isLawful && dice.chance(0.03) ? dice.damage(bytes) : bytes;
}

/** What a conversation begins with. */
export function firstBytes({ dice, isLawful }: Talk): Buffer {
  const good = Buffer.concat([preface, dice.chance(0.6) ? settings() : anySettings(dice, isLawful)]);
  if (isLawful || dice.chance(0.85)) return good;
  return dice.pick([
    preface.subarray(0, dice.int(0, 23)),
    Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n'),
    // A TLS ClientHello's first bytes.
    Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]),
    dice.damage(good),
    preface,
    dice.bytes(dice.size(400)),
  ]);
}
