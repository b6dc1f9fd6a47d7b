// A reader that stops costs the sidecar less than 1 MiB and stops its source; when it reads on it gets every byte.
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import {
  errorCode,
  frameType,
  grpcMessage,
  grpcRequest,
  H2Peer,
  type H2PeerServer,
  preface,
  settings,
  startPeerServer,
} from '../scripts/harness/h2-peer.ts';
import { inspectable, liveBytes } from '../scripts/harness/live-memory.ts';
import { residentBytes } from '../scripts/harness/memory.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { FlowSender, type Outgoing } from './support/flow-sender.ts';

const MIB = 1_048_576;
const READERS = 16;
const ENDLESS_BYTES = 100 * MIB;
/** What a reader takes before it stops. */
const TAKEN_BYTES = MIB;
/** After that time, without calls, a sidecar has given back the memory of its start. */
const TRIMMED_AFTER_MS = 2_500;
const INITIAL_WINDOW_SIZE = 4;
const MAX_WINDOW_BYTES = 0x7fff_ffff;

const DOWNLOAD = '/stopped.Reader/Download';
const UPLOAD = '/stopped.Reader/Upload';
const SMALL = '/stopped.Reader/Small';
const SMALL_ELSEWHERE = '/elsewhere.Service/Small';

/** 8 MiB of messages that all differ. */
const body = Buffer.concat(Array.from({ length: 128 }, () => grpcMessage(randomBytes(65_531))));
const checksum = createHash('sha256').update(body).digest('hex');

/** How a reader stops: it gives no more window, or has given all there is and no longer reads its socket. */
type Way = 'window' | 'socket';

/** The most that the kernel may hold of one connection between two processes. */
const kernelBytes = ['tcp_rmem', 'tcp_wmem']
  .map((name) => Number(readFileSync(`/proc/sys/net/ipv4/${name}`, 'utf8').trim().split(/\s+/)[2]))
  .reduce((sum, bytes) => sum + bytes, 0);

/** The reading end of a connection: it takes so much of each stream and then stops, until it is told to go on. */
class Reader {
  readonly peer: H2Peer;
  private readonly way: Way;
  /** From here on: no end. */
  private readonly resumed = new Set<number>();
  private readonly hashes = new Map<number, ReturnType<typeof createHash>>();
  readonly received = new Map<number, number>();
  /** Which streams it stops. */
  stops = (_streamId: number): boolean => true;

  constructor(peer: H2Peer, way: Way) {
    this.peer = peer;
    this.way = way;
    const before = peer.onFrame;
    peer.onFrame = (frame) => {
      before?.(frame);
      const { type, streamId, payload } = frame;
      if (type !== frameType.data || payload.length === 0) return;
      const received = (this.received.get(streamId) ?? 0) + payload.length;
      this.received.set(streamId, received);
      this.hashes.get(streamId)?.update(payload);
      if (this.resumed.has(streamId) || !this.stops(streamId)) {
        // The connection's window is huge, so that only streams wait.
        if (this.way === 'window') peer.windowUpdate(streamId, payload.length);
      } else if (this.way === 'socket' && received >= TAKEN_BYTES) peer.socket.pause();
    };
  }

  /** The first frames of such a reader. */
  static settings(way: Way): Buffer {
    return settings([INITIAL_WINDOW_SIZE, way === 'window' ? TAKEN_BYTES : MAX_WINDOW_BYTES]);
  }

  hash(streamId: number): void {
    this.hashes.set(streamId, createHash('sha256'));
  }

  digest(streamId: number): string | undefined {
    return this.hashes.get(streamId)?.digest('hex');
  }

  resume(streamId: number): void {
    this.resumed.add(streamId);
    if (this.way === 'window') this.peer.windowUpdate(streamId, this.received.get(streamId) ?? 0);
    else this.peer.socket.resume();
  }

  get stopped(): boolean {
    return this.peer.socket.isPaused();
  }
}

interface Upstream extends H2PeerServer {
  /** Downloads as far as they could be sent. */
  readonly outgoing: Outgoing[];
  readonly uploads: { reader: Reader; streamId: number }[];
}

const head: [string, string][] = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
];
const ok: [string, string][] = [['grpc-status', '0']];

/** Sends to `Download` as many bytes as the request says, reads `Upload` as `way` says, answers the rest at once. */
async function startUpstream(t: Test, way: Way): Promise<Upstream> {
  const outgoing: Outgoing[] = [];
  const uploads: Upstream['uploads'] = [];
  const server = await startPeerServer(t, (peer) => {
    peer.behave({ reads: false });
    const sender = new FlowSender(peer);
    const reader = new Reader(peer, way);
    reader.stops = (id) => sizeOf(id) === ENDLESS_BYTES || stalls(id);
    const fieldOf = (id: number, name: string): string | undefined =>
      peer.heads.get(id)?.[0]?.find(([field]) => field === name)?.[1];
    const sizeOf = (id: number): number => Number(fieldOf(id, 'size'));
    const stalls = (id: number): boolean => fieldOf(id, 'stalls') === 'yes';
    const before = peer.onFrame!;
    const answer = (id: number): void => {
      peer.headers(id, head);
      peer.data(id, grpcMessage(Buffer.from('small')));
      peer.headers(id, ok, true);
    };
    peer.onFrame = (frame) => {
      before(frame);
      const { type, streamId } = frame;
      const path = fieldOf(streamId, ':path');
      if (type === frameType.headers && path === DOWNLOAD) {
        peer.headers(streamId, head);
        const end = (): unknown => peer.headers(streamId, ok, true);
        outgoing.push(sender.start(streamId, body, sizeOf(streamId), end));
      } else if (type === frameType.headers && path === UPLOAD) {
        reader.hash(streamId);
        uploads.push({ reader, streamId });
      } else if (peer.ended.has(streamId) && path !== DOWNLOAD) answer(streamId);
    };
    peer.send(Reader.settings(way));
    peer.windowUpdate(0, MAX_WINDOW_BYTES - 65_535);
  });
  return { ...server, outgoing, uploads };
}

interface Caller {
  readonly reader: Reader;
  readonly peer: H2Peer;
  readonly sender: FlowSender;
  nextId: number;
}

async function connectCaller(t: Test, { outboundPort }: Sidecar, way: Way): Promise<Caller> {
  const peer = await H2Peer.connect(t, outboundPort, Buffer.concat([preface, Reader.settings(way)]));
  peer.behave({ reads: false });
  peer.windowUpdate(0, MAX_WINDOW_BYTES - 65_535);
  const sender = new FlowSender(peer);
  return { peer, sender, reader: new Reader(peer, way), nextId: 1 };
}

function open(caller: Caller, path: string, size = 0, ...more: [string, string][]): number {
  const id = caller.nextId;
  caller.nextId += 2;
  const upload = path === UPLOAD;
  caller.peer.headers(id, grpcRequest(path, ['size', String(size)], ...more), !upload);
  return id;
}

async function small(t: Test, caller: Caller, path: string): Promise<void> {
  const id = open(caller, path);
  await caller.peer.until('a small call ended', () => caller.peer.ended.has(id));
  t.equal(caller.peer.field(id, 'grpc-status'), '0', 'and another call is answered meanwhile');
}

function upload(caller: Caller, size: number, ...more: [string, string][]): [id: number, outgoing: Outgoing] {
  const id = open(caller, UPLOAD, size, ...more);
  const end = (): unknown => caller.peer.data(id, Buffer.alloc(0), true);
  return [id, caller.sender.start(id, body, size, end)];
}

/** What a number comes to once it no longer changes by more than `by`. */
async function settled(what: string, read: () => number, by: number): Promise<number> {
  const last: number[] = [];
  await waitUntil(
    `${what} no longer changed`,
    () => {
      last.push(read());
      const recent = last.slice(-5);
      return recent.length === 5 && Math.max(...recent) - Math.min(...recent) <= by;
    },
    { everyMs: 150 },
  );
  return last.at(-1)!;
}

// Each has a sidecar of its own, and most of their time is waiting.
t.jobs = 4;

const sum = (numbers: number[]): number => numbers.reduce((total, number) => total + number, 0);

for (const direction of ['download', 'upload'] as const) {
  for (const way of ['window', 'socket'] as const) {
    const reader = direction === 'download' ? 'caller' : 'upstream';
    const how = way === 'window' ? 'gives no more window' : 'no longer reads its socket';
    t.test(`${direction}: the ${reader} ${how}`, { buffered: true }, async (t) => {
      const upstream = await startUpstream(t, direction === 'upload' ? way : 'window');
      const other = await startUpstream(t, 'window');
      const sidecar = await startSidecar(
        t,
        {
          outbound: {
            routes: [
              { match: { path_prefix: '/elsewhere.' }, cluster: 'elsewhere' },
              { match: { path_prefix: '/' }, cluster: 'upstream' },
            ],
            clusters: {
              upstream: { endpoints: [upstream.address] },
              elsewhere: { endpoints: [other.address] },
            },
          },
        },
        { until: 'live', env: inspectable },
      );
      await sleep(TRIMMED_AFTER_MS);
      const callerWay = direction === 'download' ? way : 'window';
      // Those who stop reading their socket share it with nobody.
      const connections = callerWay === 'socket' ? READERS : 4;
      const callers: Caller[] = [];
      for (let i = 0; i < connections; i++) callers.push(await connectCaller(t, sidecar, callerWay));
      const callerOf = (index: number): Caller => callers[index % connections]!;
      const each = <T>(make: (caller: Caller) => T): T[] =>
        Array.from({ length: READERS }, (_, index) => make(callerOf(index)));

      // As many calls that nobody stops.
      for (const { reader } of callers) reader.stops = () => false;
      const warm = each((caller) => ({
        caller,
        id: direction === 'download' ? open(caller, DOWNLOAD, body.length) : upload(caller, body.length)[0],
      }));
      for (const { caller, id } of warm)
        await caller.peer.until('warm-up ended', () => caller.peer.ended.has(id));
      const liveBefore = await liveBytes(sidecar);
      const before = await settled('memory', () => residentBytes(sidecar.pid), MIB / 2);

      for (const { reader } of callers) reader.stops = () => true;
      upstream.outgoing.length = 0;
      const stopped = each((caller) => {
        if (direction === 'download') return { caller, id: open(caller, DOWNLOAD, ENDLESS_BYTES) };
        const [id, outgoing] = upload(caller, ENDLESS_BYTES);
        return { caller, id, outgoing };
      });
      const outgoing = (): Outgoing[] =>
        direction === 'download' ? upstream.outgoing : stopped.map((one) => one.outgoing!);
      await waitUntil(
        'all were on their way',
        () => outgoing().filter((one) => one.sentBytes > 0).length === READERS,
      );
      if (way === 'window')
        await waitUntil(
          'all that was asked for was sent',
          () => sum(outgoing().map((one) => one.sentBytes)) >= READERS * TAKEN_BYTES,
        );
      const sent = await settled('what could be sent', () => sum(outgoing().map((one) => one.sentBytes)), 0);
      const held = ((await liveBytes(sidecar)) - liveBefore) / READERS;
      const after = await settled('memory', () => residentBytes(sidecar.pid), MIB / 2);
      const costs = (after - before) / READERS;
      // Resident memory also shows garbage and what the allocator keeps: what is held is weighed live, right below.
      t.ok(costs < 2 * MIB, `a stopped reader adds ${Math.round(costs / 1024)} KiB of resident memory`);
      t.ok(held > 0 && held < MIB, `of heap and buffers it holds ${Math.round(held / 1024)} KiB`);

      const most = Math.max(...outgoing().map((one) => one.sentBytes));
      t.comment(
        `${Math.round(sent / READERS / 1024)} KiB sent a stream, at most ${Math.round(most / 1024)} KiB`,
      );
      if (way === 'window') {
        t.ok(
          most < TAKEN_BYTES + MIB,
          `its source was stopped after ${most} bytes, of which it took ${TAKEN_BYTES}`,
        );
        t.ok(sent >= READERS * TAKEN_BYTES, 'all that was asked for was sent');
      } else if (direction === 'download') {
        t.ok(most < TAKEN_BYTES + MIB + kernelBytes, `its source was stopped after ${most} bytes`);
        t.ok(callers.every((caller) => caller.reader.stopped));
      } else {
        t.ok(sent < READERS * MIB + kernelBytes, `its sources were stopped after ${sent} bytes together`);
      }

      // A connection whose other end reads nothing serves nobody; every other one does.
      const free = callerWay === 'socket' ? [await connectCaller(t, sidecar, 'window')] : callers;
      const where = direction === 'upload' && way === 'socket' ? SMALL_ELSEWHERE : SMALL;
      for (const caller of free) await small(t, caller, where);

      for (const { caller, id } of stopped) caller.peer.reset(id, errorCode.cancel);
      for (const { reader, streamId } of upstream.uploads) reader.resume(streamId);

      // One more, which stops and goes on.
      const caller = await connectCaller(t, sidecar, callerWay);
      if (direction === 'download') {
        const id = open(caller, DOWNLOAD, body.length);
        caller.reader.hash(id);
        await caller.peer.until('it had begun', () => (caller.reader.received.get(id) ?? 0) >= TAKEN_BYTES);
        await small(t, callerWay === 'socket' ? free[0]! : caller, SMALL);
        t.notOk(caller.peer.ended.has(id), 'it has stopped');
        caller.reader.resume(id);
        await caller.peer.until('all of it came', () => caller.peer.ended.has(id));
        t.equal(caller.reader.digest(id), checksum, 'it got every byte');
      } else {
        const [id] = upload(caller, body.length, ['stalls', 'yes']);
        const seen = (): Upstream['uploads'][number] | undefined =>
          upstream.uploads.find(({ reader, streamId }) => {
            const fields = reader.peer.heads.get(streamId)?.[0];
            return fields?.some(([name]) => name === 'stalls') === true;
          });
        const { reader, streamId } = await waitUntil('it was seen', seen);
        await reader.peer.until('it had begun', () => (reader.received.get(streamId) ?? 0) >= TAKEN_BYTES);
        await small(t, caller, where);
        t.notOk(caller.peer.ended.has(id), 'it has stopped');
        reader.resume(streamId);
        await caller.peer.until('it was answered', () => caller.peer.ended.has(id));
        t.equal(caller.peer.field(id, 'grpc-status'), '0');
        t.equal(reader.digest(streamId), checksum, 'the upstream got every byte');
      }
    });
  }
}
