// The calls of the known mix.
import * as grpc from '@grpc/grpc-js';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { path, STREAMED_TASK, timedText } from './agent.ts';
import { playFailures } from './failures.ts';
import { EVER, Player } from './player.ts';
import { LIMIT } from './system.ts';
import { playStream, playTasks } from './tasks.ts';

const { CANCELLED, DEADLINE_EXCEEDED, OK, RESOURCE_EXHAUSTED, UNAVAILABLE, UNIMPLEMENTED } = grpc.status;

/** More of them are shed than an alert takes no notice of. */
const CROWD = LIMIT + 6;

export class Calls extends Player {
  /** All of them; the calls that wait at the same time do so until `whileHeld` is done. */
  async play(round: number, whileHeld: (held: number) => Promise<void>): Promise<void> {
    this.round = round;
    for (let code = 0; code <= 16; code++)
      this.plain(await this.unary('plain', path('Status'), `${this.id()} ${code}`), code);
    for (const ms of [10, 40, 90, 160, 300])
      this.plain(await this.unary('plain', path('Timed'), timedText(this.id(), ms)));
    for (let i = 0; i < 4; i++) await this.retried();
    for (let i = 0; i < 3; i++) await this.hedged();
    await playTasks(this);
    for (const method of [path('Stream'), path('Stream'), STREAMED_TASK, STREAMED_TASK])
      await playStream(this, method, OK);
    await playStream(this, STREAMED_TASK, grpc.status.INTERNAL);
    await playFailures(this);
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

  private async retried(): Promise<void> {
    const seen = await this.unary('retried', path('Retried'), this.id());
    this.expect(seen, OK);
    this.make('retried', seen, [UNAVAILABLE, OK]);
    this.decide('retries', 'retried', 'retried', 'success');
    this.serve({ ...seen, code: UNAVAILABLE, leastMs: 0 });
    this.serve(seen);
  }

  private async hedged(): Promise<void> {
    const seen = await this.unary('hedged', path('Hedged'), this.id());
    this.expect(seen, OK);
    this.make('hedged', seen, [OK, CANCELLED]);
    this.decide('hedges', 'hedged', 'sent', 'won');
    this.serve(seen);
    this.serve({ ...seen, code: CANCELLED, leastMs: 0, mostMs: EVER });
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
    this.plain({ method: path('Bidi'), code, leastMs: 0, mostMs: await this.since(startedAtMs) });
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
    const crowd = Array.from({ length: CROWD }, async () => {
      const seen = await this.unary('plain', path('Held'), `hold ${this.id()}`);
      const isShed = seen.code === RESOURCE_EXHAUSTED;
      this.plain(seen, isShed ? RESOURCE_EXHAUSTED : OK, isShed ? null : OK);
      if (!isShed) return;
      shed++;
      this.reject('research', 'inbound', 'overloaded');
    });
    await waitUntil(
      'some are shed, and the others wait',
      () => held.length > 0 && held.length + shed === CROWD,
    );
    this.t.ok(shed > 0, `${shed} were shed`);
    await whileHeld(held.length);
    for (const answer of held.splice(0)) answer();
    await Promise.all(crowd);
  }
}
