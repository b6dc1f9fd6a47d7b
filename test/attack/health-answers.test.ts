// Connections that idle, trickle, do not read or send requests ahead keep no probe, scrape or operator from an answer.
import { get } from 'node:http';
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { GRACE_MS, HttpPlaces, type Occupant } from '../../sidecar/listeners/http-connections.ts';
import { startScene } from './scene.ts';
import { sendAhead } from './send-ahead.ts';

const HOLDERS = 400;
const PROBES = 40;

/** One attacker: a connection that is opened again whenever it is closed. */
class Holder {
  private readonly port: number;
  private readonly from: string;
  private readonly text: string;
  private socket: Socket | undefined;
  private at = 0;
  private stopped = false;
  opened = 0;

  constructor(port: number, from: string, text: string) {
    this.port = port;
    this.from = from;
    this.text = text;
    this.open();
  }

  private open(): void {
    this.at = 0;
    const socket = connect({ port: this.port, host: '127.0.0.1', localAddress: this.from });
    socket.on('connect', () => this.opened++);
    socket.on('error', () => {});
    socket.on('close', () => {
      if (!this.stopped) setTimeout(() => !this.stopped && this.open(), 20);
    });
    socket.pause();
    this.socket = socket;
  }

  /** One byte more, now and then. */
  trickle(): void {
    const byte = this.text[this.at++];
    if (byte !== undefined && this.socket?.writable) this.socket.write(byte);
  }

  /** All of it, without reading an answer. */
  ask(): void {
    if (this.at === 0 && this.socket?.writable) this.socket.write(this.text);
    this.at = this.text.length;
  }

  stop(): void {
    this.stopped = true;
    this.socket?.destroy();
  }
}

function probe(port: number, path: string, from: string): Promise<number> {
  return new Promise((resolve) => {
    const options = { host: '127.0.0.1', port, path, localAddress: from, agent: false, timeout: 10_000 };
    const request = get(options, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode ?? 0));
      response.on('error', () => resolve(-1));
    });
    request.on('error', () => resolve(-1));
    request.on('timeout', () => request.destroy());
  });
}

/** Holds every connection of a port while it is probed, from the attackers' address and from another one. */
async function probeUnder(
  t: Test,
  port: number,
  path: string,
  kind: 'idle' | 'trickle' | 'deaf',
): Promise<void> {
  const request = `GET ${path} HTTP/1.1\r\nHost: localhost\r\nX-Long: ${'x'.repeat(10_000)}\r\n\r\n`;
  const holders = Array.from({ length: HOLDERS }, () => new Holder(port, '127.0.0.2', request));
  const timer = setInterval(() => {
    if (kind === 'trickle') for (const holder of holders) holder.trickle();
    if (kind === 'deaf') for (const holder of holders) holder.ask();
  }, 50);
  await waitUntil('all have connected', () => holders.every(({ opened }) => opened > 0));
  for (const from of ['127.0.0.3', '127.0.0.2']) {
    const statuses: number[] = [];
    for (let i = 0; i < PROBES; i++) statuses.push(await probe(port, path, from));
    const answered = statuses.filter((status) => status === 200).length;
    t.equal(answered, PROBES, `${path} from ${from}, under connections that are ${kind}`);
  }
  clearInterval(timer);
  for (const holder of holders) holder.stop();
}

t.test('probes, scrapes and pages get answers under any number of held connections', async (t) => {
  const scene = await startScene(t);
  const { healthPort, metricsPort, adminPort } = scene.sidecar;
  const { bystander } = await scene.during(async () => {
    for (const kind of ['idle', 'trickle', 'deaf'] as const)
      await probeUnder(t, healthPort, '/healthz/live', kind);
    await probeUnder(t, healthPort, '/healthz/ready', 'trickle');
    await probeUnder(t, metricsPort, '/metrics', 'trickle');
    await probeUnder(t, adminPort, '/stats', 'trickle');
  });
  scene.holds(t, bystander);
});

t.test('probes get answers, and memory is bounded, under pipelined requests', async (t) => {
  const scene = await startScene(t, { checkout: process.env['ATTACKED_CHECKOUT'] });
  const { healthPort, metricsPort, adminPort } = scene.sidecar;
  const attacks = [
    { port: metricsPort, path: '/metrics', connections: 20, reads: false },
    { port: metricsPort, path: '/metrics', connections: 1, reads: true },
    { port: healthPort, path: '/healthz/live', connections: 100, reads: false },
    { port: healthPort, path: '/healthz/live', connections: 100, reads: true },
    { port: adminPort, path: '/config', connections: 50, reads: false },
  ];
  const { bystander } = await scene.during(async () => {
    for (const { port, path, connections, reads } of attacks) {
      const request = `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
      const ahead = sendAhead(t, { port, connections, reads, bytes: Buffer.from(request.repeat(1_000)) });
      await waitUntil('all have connected', () => ahead.opened >= connections);
      const statuses: number[] = [];
      for (let i = 0; i < 20; i++) statuses.push(await probe(healthPort, '/healthz/live', '127.0.0.3'));
      t.strictSame(new Set(statuses), new Set([200]), `live, while ${connections} send ${path} ahead`);
      t.equal(await probe(port, path, '127.0.0.3'), 200, `${path} itself`);
      await ahead.stop();
      t.comment(`${path} on ${connections}, read ${reads}: ${scene.peakBytes() / 1e6} MB`);
    }
  });
  scene.holds(t, bystander);
});

t.test('a new connection replaces the oldest idle one of the address with the most', async (t) => {
  const places = new HttpPlaces<Occupant & { name: string }>(4);
  const enter = (name: string, address: string, active = 0) => {
    const one = { name, address, active, sinceMs: 0 };
    places.enter(one);
    t.equal(places.takeOne(GRACE_MS - 1), undefined, 'a young one may be about to ask');
    return { one, gone: places.takeOne(GRACE_MS)?.name };
  };
  t.equal(enter('a1', 'a', 1).gone, undefined);
  const a2 = enter('a2', 'a');
  t.equal(enter('a3', 'a').gone, undefined, 'one alone has all places');
  t.equal(enter('b1', 'b').gone, undefined);
  t.equal(enter('b2', 'b').gone, 'a2', 'the oldest idle connection');
  t.equal(enter('a4', 'a').gone, 'a3', 'between equals the newcomer gives way itself');
  t.equal(enter('c1', 'c').gone, 'a4');
  t.equal(enter('c2', 'c').gone, 'b1');
  places.leave(a2.one);
  t.equal(places.size, 4, 'a closed connection does not close again');
  t.equal(enter('d1', 'd').gone, 'c1');
  t.equal(enter('e1', 'e').gone, 'b2', 'where each has one: the oldest idle one');
  t.equal(enter('f1', 'f', 1).gone, 'c2');
  for (const name of ['g1', 'h1']) enter(name, name, 1);
  t.equal(enter('i1', 'i', 1).gone, 'a1', 'where all are busy: the oldest');
  for (let more = 0; more < 12; more++)
    places.enter({ name: `z${more}`, address: 'z', active: 0, sinceMs: 0 });
  t.equal(places.takeOne(0), undefined, 'four times the bound are too many');
  places.enter({ name: 'y', address: 'y', active: 0, sinceMs: 0 });
  t.equal(places.takeOne(0)?.name, 'z0', 'however young they are');
});
