// A hostile gRPC endpoint behind the outbound listener. What it does to a call is in the call's path: `/fuzz.Endpoint/SEED`.
import { type AddressInfo, createServer, type Socket } from 'node:net';
import {
  errorCode,
  flag,
  frame,
  frameType,
  grpcMessage,
  H2Peer,
  settings,
  uint32,
} from '../../../scripts/harness/h2-peer.ts';
import { resetSocket } from '../../../scripts/harness/net.ts';
import { Dice } from './dice.ts';
import { type Field, hpackBlock, references } from './grpc-fields.ts';
import { anySettings } from './grpc-steps.ts';

export const ENDPOINT_PATH = '/fuzz.Endpoint/';

/** A connection that lives on would keep all that this end has seen of it. */
const MAX_STREAMS_OF_A_CONNECTION = 500;
const MAX_WAITING_BYTES = 4_000_000;

const good: Field[] = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
];
const ok: Field[] = [['grpc-status', '0']];

const STATUSES = ['0', '1', '4', '8', '13', '14', '16', '17', '99', '-1', '', 'OK', '00', '4294967296', '0 '];
const FIELDS: readonly Field[] = [
  ['grpc-message', '%zz%'],
  ['grpc-message', 'x'.repeat(20_000)],
  ['grpc-status-details-bin', '!!!'],
  ['grpc-retry-pushback-ms', '1'],
  ['grpc-retry-pushback-ms', '-1'],
  ['grpc-retry-pushback-ms', 'x'],
  ['grpc-encoding', 'gzip'],
  ['outrigger-reason', 'overloaded'],
  ['outrigger-reason', 'x'.repeat(2_000)],
  ['outrigger-tokens-used', '-5'],
  ['outrigger-model-failure', '{"a":'],
  ['outrigger-deduplicated', 'replayed'],
  ['content-length', '3'],
  ['connection', 'close'],
  ['set-cookie', 'a=b'],
  ['X-Upper', 'a'],
  [':late', 'pseudo'],
  ['x-control', 'a\u0001b\u007f'],
  ['x-line', 'a\r\nb: c'],
];

type Act = (dice: Dice, id: number) => Buffer;

const headersOf = (dice: Dice, id: number, fields: Field[], end: boolean): Buffer =>
  frame(
    frameType.headers,
    flag.endHeaders | (end ? flag.endStream : 0),
    id,
    hpackBlock(dice, fields).subarray(0, 16_384),
  );

function withMore(dice: Dice, fields: readonly Field[]): Field[] {
  const list = fields.map(([name, value]): Field => [name, value]);
  for (let more = dice.size(4); more > 0; more--) list.push([...dice.pick(FIELDS)]);
  if (dice.chance(0.1)) list.splice(dice.int(0, list.length - 1), 1);
  return list;
}

/** DATA with messages whose prefix may lie, in frames of any size. */
const data: Act = (dice, id) => {
  const bytes = grpcMessage(Buffer.alloc(dice.size(200_000), 0x61));
  if (dice.chance(0.15)) uint32(dice.pick([0, bytes.length, 0x7fff_ffff, 0xffff_ffff])).copy(bytes, 1);
  if (dice.chance(0.1)) bytes[0] = dice.pick([1, 2, 255]);
  const most = dice.weighted([
    [9, 16_384],
    [1, 1 + dice.size(100)],
  ]);
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length && parts.length < 300; at += most)
    parts.push(frame(frameType.data, 0, id, bytes.subarray(at, at + most)));
  return Buffer.concat(parts);
};

const ACTS: readonly (readonly [weight: number, act: Act])[] = [
  [10, (dice, id) => headersOf(dice, id, withMore(dice, good), false)],
  [8, data],
  [
    6,
    (dice, id) =>
      headersOf(dice, id, withMore(dice, [['grpc-status', dice.pick(STATUSES)]]), dice.chance(0.9)),
  ],
  [
    2,
    (dice, id) => headersOf(dice, id, withMore(dice, [...good, ['grpc-status', dice.pick(STATUSES)]]), true),
  ],
  [
    2,
    (dice, id) =>
      headersOf(
        dice,
        id,
        [[':status', dice.pick(['100', '103', '101', '503', '404', '', '2000', 'x'])]],
        dice.chance(0.3),
      ),
  ],
  [3, (dice, id) => frame(frameType.rstStream, 0, id, uint32(dice.pick(Object.values(errorCode))))],
  [1, (dice, id) => goaway(dice, dice.pick([0, id, id - 2, 0x7fff_ffff]))],
  [1, (dice) => anySettings(dice)],
  [
    1,
    (dice, id) =>
      frame(frameType.windowUpdate, 0, dice.pick([0, id]), uint32(dice.pick([0, 1, 0x7fff_ffff]))),
  ],
  [
    1,
    (dice, id) =>
      frame(frameType.pushPromise, flag.endHeaders, id, Buffer.concat([uint32(2), dice.bytes(20)])),
  ],
  [1, (_dice, id) => frame(frameType.data, flag.endStream, id)],
  [
    1,
    (dice, id) =>
      frame(dice.int(0, 12), dice.int(0, 255), dice.pick([0, id, id + 2, 2]), dice.bytes(dice.size(64))),
  ],
  [1, (dice) => repeat(dice.size(100), () => frame(frameType.ping, 0, 0, Buffer.alloc(8)))],
  [1, (dice) => repeat(dice.size(100), () => settings())],
  [
    1,
    (dice, id) =>
      frame(
        frameType.headers,
        flag.endHeaders,
        id,
        Buffer.concat([hpackBlock(dice, good), references(dice, 3_000)]),
      ),
  ],
  [1, (dice) => dice.bytes(dice.size(100))],
];

function repeat(count: number, make: () => Buffer): Buffer {
  return Buffer.concat(Array.from({ length: count }, make));
}

function goaway(dice: Dice, lastStreamId: number): Buffer {
  const code = dice.pick([0, 0, 2, 11, 99]);
  return frame(frameType.goaway, 0, 0, Buffer.concat([uint32(Math.max(0, lastStreamId)), uint32(code)]));
}

/** What is done to one call. */
function answer(dice: Dice, peer: H2Peer, id: number): void {
  if (peer.socket.writableLength > MAX_WAITING_BYTES) return;
  // Half are good, so that calls get far, and what follows a fault is seen too.
  if (dice.chance(0.4)) {
    void peer.send(
      headersOf(dice, id, withGood(good), false),
      data(dice, id),
      headersOf(dice, id, withGood(ok), true),
    );
    return;
  }
  for (let acts = dice.size(8); acts > 0; acts--) {
    const bytes = dice.weighted(ACTS)(dice, id);
    void peer.send(dice.chance(0.03) ? dice.damage(bytes) : bytes);
  }
  const end = dice.weighted([
    [8, 'leave open'],
    [4, 'end'],
    [1, 'close'],
    [1, 'reset'],
    [1, 'stop reading'],
  ] as const);
  if (end === 'end') void peer.send(headersOf(dice, id, withGood(ok), true));
  else if (end === 'close') peer.socket.end();
  else if (end === 'reset') resetSocket(peer.socket);
  else if (end === 'stop reading') {
    peer.socket.pause();
    setTimeout(() => peer.socket.destroy(), 2_000);
  }
}

const withGood = (fields: readonly Field[]): Field[] => fields.map(([name, value]) => [name, value]);

/** What a connection begins with: mostly SETTINGS. */
function greeting(dice: Dice): Buffer {
  return dice.weighted([
    [40, settings()],
    [4, anySettings(dice)],
    [1, Buffer.from('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n')],
    [1, Buffer.concat([frame(frameType.ping, 0, 0, Buffer.alloc(8)), settings()])],
    [1, Buffer.concat([settings(), goaway(dice, 0)])],
    [1, dice.bytes(100)],
    [1, Buffer.alloc(0)],
  ]);
}

export interface HostileEndpoint {
  readonly address: string;
  close(): void;
}

/** @param seed of what connections begin with */
export async function startHostileEndpoint(seed: number): Promise<HostileEndpoint> {
  const connections = new Dice(seed);
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    const peer = new H2Peer(socket, 'server');
    peer.behave();
    let streams = 0;
    const behaved = peer.onFrame;
    peer.onFrame = (received) => {
      behaved?.(received);
      if (received.type !== frameType.headers) return;
      if (++streams > MAX_STREAMS_OF_A_CONNECTION) socket.destroy();
      const path = peer.field(received.streamId, ':path') ?? '';
      const own = Number(path.slice(ENDPOINT_PATH.length));
      if (path.startsWith(ENDPOINT_PATH) && Number.isInteger(own))
        answer(new Dice(own), peer, received.streamId);
      // Health checks and the like.
      else
        void peer.send(
          headersOf(new Dice(0), received.streamId, [...withGood(good), ['grpc-status', '12']], true),
        );
    };
    void peer.send(greeting(connections));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    address: `127.0.0.1:${port}`,
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
