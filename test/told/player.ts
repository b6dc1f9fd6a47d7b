// Makes calls, and writes each into the ledger as its caller and the agent saw it.
import * as grpc from '@grpc/grpc-js';
import type { Test } from 'tap';
import { RawClient } from '../../scripts/harness/raw-grpc.ts';
import type { Ledger } from './ledger.ts';
import { type ToldSystem, untilNoted } from './system.ts';

const nameOf = (code: number): string => grpc.status[code] ?? `CODE_${code}`;
const { OK } = grpc.status;

/** A call as its caller saw it. */
export interface Seen {
  readonly method: string;
  readonly code: grpc.status;
  readonly leastMs: number;
  readonly mostMs: number;
  /** `outrigger-reason`. */
  readonly reason?: string;
}

/** Who leaves does not see when that is noticed. */
export const EVER = Number.POSITIVE_INFINITY;

export class Player {
  round = 0;
  readonly t: Test;
  readonly system: ToldSystem;
  readonly ledger: Ledger;
  private readonly clients = new Map<string, RawClient>();

  constructor(t: Test, system: ToldSystem, ledger: Ledger) {
    this.t = t;
    this.system = system;
    this.ledger = ledger;
  }

  private ids = 0;
  id(): string {
    return `${this.round}.${++this.ids}`;
  }

  client(cluster: string): RawClient {
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

  async unary(
    cluster: string,
    method: string,
    body: string | Buffer,
    metadata = new grpc.Metadata(),
  ): Promise<Seen> {
    const bytes = Buffer.from(body);
    const startedAtMs = performance.now();
    const { code, trailers } = await this.client(cluster).unary(bytes, { path: method, metadata });
    const reason = trailers.get('outrigger-reason').join();
    const mostMs = await this.since(startedAtMs);
    return { method, code, leastMs: this.system.agent.takeMs(bytes), mostMs, reason };
  }

  /** How long it is since then, once the sidecars have noted what has ended. */
  async since(startedAtMs: number): Promise<number> {
    await untilNoted(this.system);
    return performance.now() - startedAtMs;
  }

  expect({ method, code }: Seen, expected: grpc.status): void {
    this.t.equal(nameOf(code), nameOf(expected), method);
  }

  make(
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

  serve({ method, code, leastMs, mostMs }: Seen, atApp: grpc.status | null = code, isRace = false): void {
    const { round } = this;
    const app = atApp === null ? undefined : nameOf(atApp);
    this.ledger.served.push({ round, method, code: nameOf(code), leastMs, mostMs, atApp: app, isRace });
  }

  reject(service: 'caller' | 'research', listener: string, reason: string): void {
    this.ledger.rejected.push({ round: this.round, service, listener, reason });
  }

  /** Of the caller's sidecar, on another attempt. */
  decide(kind: 'retries' | 'hedges', cluster: string, ...outcomes: readonly string[]): void {
    for (const outcome of outcomes) this.ledger.decisions.push({ round: this.round, kind, cluster, outcome });
  }

  task(status: string, use: 'useful' | 'wasted', tokens: number): void {
    this.ledger.tasks.push({ round: this.round, status, use, tokens });
  }

  /** A call of one attempt: both sidecars tell the same status. */
  plain(seen: Seen, expected: grpc.status = OK, atApp: grpc.status | null = seen.code): void {
    this.expect(seen, expected);
    this.make('plain', seen, [seen.code]);
    this.serve(seen, atApp);
  }
}
