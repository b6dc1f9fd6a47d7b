// The calls of the known mix: each is made, and written into the ledger as its caller and the agent saw it.
import * as grpc from '@grpc/grpc-js';
import type { Test } from 'tap';
import { RawClient } from '../support/raw-grpc.ts';
import { taskRequest } from '../support/upstream.ts';
import { waitUntil } from '../support/wait-until.ts';
import { path, STREAMED_TASK, TASK, TOKENS, timedText } from './agent.ts';
import type { Ledger } from './ledger.ts';
import { adminPage, type ToldSystem } from './system.ts';

const nameOf = (code: number): string => grpc.status[code] ?? `CODE_${code}`;
const { CANCELLED, DEADLINE_EXCEEDED, OK, RESOURCE_EXHAUSTED, UNAVAILABLE, UNIMPLEMENTED } = grpc.status;

/** A call as its caller saw it. */
interface Seen {
  readonly method: string;
  readonly code: grpc.status;
  readonly leastMs: number;
  readonly mostMs: number;
}

/** Who leaves does not see when that is noticed. */
const EVER = Number.POSITIVE_INFINITY;

export class Calls {
  round = 0;
  private readonly t: Test;
  private readonly system: ToldSystem;
  private readonly ledger: Ledger;
  private readonly clients = new Map<string, RawClient>();

  constructor(t: Test, system: ToldSystem, ledger: Ledger) {
    this.t = t;
    this.system = system;
    this.ledger = ledger;
  }

  /** All of them; the calls that wait at the same time do so until `whileHeld` is done. */
  async play(round: number, whileHeld: (held: number) => Promise<void>): Promise<void> {
    this.round = round;
    for (let code = 0; code <= 16; code++)
      this.plain(await this.unary('plain', path('Status'), `${this.id()} ${code}`), code);
    for (const ms of [10, 40, 90, 160, 300])
      this.plain(await this.unary('plain', path('Timed'), timedText(this.id(), ms)));
    for (let i = 0; i < 4; i++) await this.retried();
    for (let i = 0; i < 3; i++) await this.hedged();
    await this.tasks();
    for (const method of [path('Stream'), path('Stream'), STREAMED_TASK, STREAMED_TASK])
      await this.streamed(method, OK);
    await this.streamed(STREAMED_TASK, grpc.status.INTERNAL);
    for (let i = 0; i < 2; i++) await this.bidi();
    for (const cluster of ['plain', 'bare', 'direct']) for (let i = 0; i < 2; i++) await this.late(cluster);
    for (let i = 0; i < 3; i++) await this.left();
    await this.crowd(whileHeld);
    for (let i = 0; i < 2; i++) {
      const seen = await this.unary('nowhere', path('Unary'), this.id());
      this.expect(seen, UNIMPLEMENTED);
      this.make('', seen, []);
      this.reject('caller', 'outbound', 'no_route');
    }
  }

  private ids = 0;
  private id(): string {
    return `${this.round}.${++this.ids}`;
  }

  private client(cluster: string): RawClient {
    let client = this.clients.get(cluster);
    if (client === undefined) {
      const { caller, research } = this.system;
      client =
        cluster === 'direct'
          ? new RawClient(this.t, research.inboundPort)
          : new RawClient(this.t, caller.outboundPort, { 'grpc.default_authority': cluster });
      this.clients.set(cluster, client);
    }
    return client;
  }

  private async unary(
    cluster: string,
    method: string,
    body: string | Buffer,
    metadata = new grpc.Metadata(),
  ): Promise<Seen> {
    const bytes = Buffer.from(body);
    const startedAtMs = performance.now();
    const { code } = await this.client(cluster).unary(bytes, { path: method, metadata });
    const mostMs = performance.now() - startedAtMs;
    return { method, code, leastMs: this.system.agent.takeMs(bytes), mostMs };
  }

  private expect({ method, code }: Seen, expected: grpc.status): void {
    this.t.equal(nameOf(code), nameOf(expected), method);
  }

  private make(
    cluster: string,
    { method, code, leastMs, mostMs }: Seen,
    attempts: readonly grpc.status[],
    isRace = false,
  ): void {
    const { round } = this;
    this.ledger.made.push({
      round,
      cluster,
      method,
      code: nameOf(code),
      leastMs,
      mostMs,
      attempts: attempts.map(nameOf),
      isRace,
    });
  }

  private serve(
    { method, code, leastMs, mostMs }: Seen,
    atApp: grpc.status | null = code,
    isRace = false,
  ): void {
    const { round } = this;
    const app = atApp === null ? undefined : nameOf(atApp);
    this.ledger.served.push({ round, method, code: nameOf(code), leastMs, mostMs, atApp: app, isRace });
  }

  private reject(service: 'caller' | 'research', listener: string, reason: string): void {
    this.ledger.rejected.push({ round: this.round, service, listener, reason });
  }

  private task(status: string, use: 'useful' | 'wasted', tokens: number): void {
    this.ledger.tasks.push({ round: this.round, status, use, tokens });
  }

  /** A call of one attempt: both sidecars tell the same status. */
  private plain(seen: Seen, expected: grpc.status = OK, atApp: grpc.status | null = seen.code): void {
    this.expect(seen, expected);
    this.make('plain', seen, [seen.code]);
    this.serve(seen, atApp);
  }

  private async retried(): Promise<void> {
    const seen = await this.unary('retried', path('Retried'), this.id());
    this.expect(seen, OK);
    this.make('retried', seen, [UNAVAILABLE, OK]);
    this.serve({ ...seen, code: UNAVAILABLE, leastMs: 0 });
    this.serve(seen);
  }

  private async hedged(): Promise<void> {
    const seen = await this.unary('hedged', path('Hedged'), this.id());
    this.expect(seen, OK);
    this.make('hedged', seen, [OK, CANCELLED]);
    this.serve(seen);
    this.serve({ ...seen, code: CANCELLED, leastMs: 0, mostMs: EVER });
  }

  private async tasks(): Promise<void> {
    const bodyOf = (id: string, input: string) =>
      taskRequest({ id: `${this.round} ${id}`, type: 'research', input });
    const ran = new Set<string>();
    for (const id of ['a', 'b', 'a', 'c', 'a']) {
      const isFirst = !ran.has(id);
      ran.add(id);
      this.plain(await this.unary('plain', TASK, bodyOf(id, 'x')), OK, isFirst ? OK : null);
      if (isFirst) this.task('SUCCESS', 'useful', TOKENS);
      else this.ledger.again.push({ round: this.round, outcome: 'replayed' });
    }
    for (const id of ['d', 'e']) {
      this.plain(await this.unary('plain', TASK, bodyOf(id, 'fail')));
      this.task('FAILED', 'wasted', TOKENS);
    }
    this.plain(await this.unary('plain', TASK, bodyOf('f', 'break')), grpc.status.INTERNAL);
    this.task('ERROR', 'wasted', 0);
    // Two that come while the first of their task runs.
    const { agent, research } = this.system;
    const again = async (): Promise<number> => {
      const stats = (await adminPage(research, '/stats')) as { tasks_once: { joined: number } };
      return stats.tasks_once.joined;
    };
    const [before, body] = [await again(), bodyOf('g', 'hold')];
    const first = this.unary('plain', TASK, body);
    await waitUntil('the agent has the task', () => agent.held.length === 1);
    const others = [1, 2].map(() => this.unary('plain', TASK, body));
    await waitUntil('the others have joined it', async () => (await again()) === before + 2);
    agent.held.pop()!();
    this.plain({ ...(await first), leastMs: 0 });
    this.task('SUCCESS', 'useful', TOKENS);
    for (const other of others) {
      this.plain({ ...(await other), leastMs: 0 }, OK, null);
      this.ledger.again.push({ round: this.round, outcome: 'joined' });
    }
  }

  private async streamed(method: string, expected: grpc.status): Promise<void> {
    const startedAtMs = performance.now();
    const input = expected === OK ? 'x' : 'break';
    const body = method === STREAMED_TASK ? taskRequest({ id: this.id(), input }) : Buffer.from(this.id());
    let messages = 0;
    const stream = this.client('plain').serverStream(body, { path: method });
    stream.on('data', () => messages++);
    stream.on('error', () => {});
    const code = await new Promise<grpc.status>((resolve) =>
      stream.on('status', (status) => setImmediate(() => resolve(status.code))),
    );
    const mostMs = performance.now() - startedAtMs;
    this.t.equal(messages, 3, method);
    this.plain({ method, code, leastMs: this.system.agent.takeMs(body), mostMs }, expected);
    if (method === STREAMED_TASK) this.task(code === OK ? 'SUCCESS' : 'ERROR', 'useful', 0);
  }

  /** Asks for the next message once it has the answer to the last one. */
  private async bidi(): Promise<void> {
    const startedAtMs = performance.now();
    const call = this.client('plain').bidi({ path: path('Bidi') });
    let messages = 0;
    call.on('data', () => {
      if (++messages < 3) call.write(Buffer.from('more'));
      else call.end();
    });
    const ended = new Promise<grpc.status>((resolve) => call.on('status', ({ code }) => resolve(code)));
    call.write(Buffer.from('begin'));
    const code = await ended;
    this.t.equal(messages, 3, 'messages both ways');
    this.plain({ method: path('Bidi'), code, leastMs: 0, mostMs: performance.now() - startedAtMs });
  }

  /** The agent says nothing until the deadline: of the call through both sidecars, through the caller's only, or the agent's only. */
  private async late(cluster: string): Promise<void> {
    const metadata = new grpc.Metadata();
    metadata.set('grpc-timeout', '300m');
    const seen = await this.unary(cluster, path('Silent'), this.id(), metadata);
    this.expect(seen, DEADLINE_EXCEEDED);
    if (cluster !== 'direct') this.make(cluster, seen, [DEADLINE_EXCEEDED], cluster === 'plain');
    if (cluster === 'bare') this.reject('caller', 'outbound', 'deadline');
    else if (cluster === 'direct') {
      this.serve(seen);
      this.reject('research', 'inbound', 'deadline');
    } else this.serve({ ...seen, mostMs: EVER }, DEADLINE_EXCEEDED, true);
  }

  private async left(): Promise<void> {
    const method = path('Silent');
    const { agent } = this.system;
    const before = agent.count(method);
    const running = this.client('plain').serverStream(Buffer.from(this.id()), { path: method });
    const cancelled = new Promise<number>((resolve) =>
      running.on('error', (error: grpc.ServiceError) => resolve(error.code)),
    );
    await waitUntil('the agent has it', () => agent.count(method) > before);
    running.cancel();
    this.plain({ method, code: await cancelled, leastMs: 0, mostMs: EVER }, CANCELLED);
  }

  /** More at a time than the agent's sidecar lets in: how many are shed their callers see. */
  private async crowd(whileHeld: (held: number) => Promise<void>): Promise<void> {
    const { held } = this.system.agent;
    let shed = 0;
    const crowd = Array.from({ length: 12 }, async () => {
      const seen = await this.unary('plain', path('Held'), `hold ${this.id()}`);
      const isShed = seen.code === RESOURCE_EXHAUSTED;
      this.plain(seen, isShed ? RESOURCE_EXHAUSTED : OK, isShed ? null : OK);
      if (!isShed) return;
      shed++;
      this.reject('research', 'inbound', 'overloaded');
    });
    await waitUntil('some are shed, and the others wait', () => held.length > 0 && held.length + shed === 12);
    this.t.ok(shed > 0, `${shed} were shed`);
    await whileHeld(held.length);
    for (const answer of held.splice(0)) answer();
    await Promise.all(crowd);
  }
}
