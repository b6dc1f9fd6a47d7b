/**
 * The free places of this sidecar, and the lanes of the queues that may have work for them.
 *
 * While a place is free, a pull stands at each lane, so that a task comes at once. There are more lanes than free places may
 * be: a task that comes when the last place is gone is handed on at once, so that none waits here while another sidecar is free.
 * While none is free, the server tells us when a task is stored: a lane that has work is remembered. The next free place pulls
 * from such lanes in turns, and so callers get their turns, before pulls stand anywhere.
 */
import type { Msg, Subscription } from '@nats-io/transport-node';
import type { BusConnection } from './connection.ts';
import { type Delivery, readDelivery } from './delivery.ts';
import { LANES, lastToken, wakeSubject, wakeSubjects } from './names.ts';
import type { Queue } from './queue.ts';
import { StandingPulls } from './standing-pulls.ts';

/** So often all lanes are looked at: what was delivered again, or what nobody was told. */
const ROUND_MS = 1_000;

interface Lane {
  readonly agentType: string;
  readonly lane: number;
  /** Tasks that wait there, as far as we know, and that no pull of ours is after. */
  expected: number;
  /** Counts what we were told of it. */
  wakes: number;
}

/** `free` → `pulling` → `claiming` → `over`; back to `free` when nothing came of it. */
interface Place<Lease> {
  readonly agentTypes: ReadonlySet<string>;
  readonly holder: string;
  readonly signal: AbortSignal;
  isBusy: boolean;
  readonly finish: (lease: Lease | undefined) => void;
  readonly fail: (error: unknown) => void;
}

interface Agent {
  readonly lanes: readonly Lane[];
  /** Only while no place is free: else a task comes by itself. */
  told: Subscription | undefined;
  readonly standing: StandingPulls;
}

export class Demand<Lease extends { giveBack(): Promise<void> }> {
  private readonly connection: BusConnection;
  private readonly queue: Pick<Queue, 'pull' | 'release' | 'refuse'>;
  private readonly claim: (delivery: Delivery, holder: string) => Promise<Lease | undefined>;
  private readonly places = new Set<Place<Lease>>();
  private readonly agents = new Map<string, Agent>();
  private lanes: readonly Lane[] = [];
  private turn = 0;
  private round: NodeJS.Timeout | undefined;
  private lookedMs = 0;

  constructor(
    connection: BusConnection,
    queue: Pick<Queue, 'pull' | 'release' | 'refuse'>,
    claim: (delivery: Delivery, holder: string) => Promise<Lease | undefined>,
  ) {
    this.connection = connection;
    this.queue = queue;
    this.claim = claim;
  }

  /** A place is free, until it has a task or the signal comes. */
  take(agentTypes: readonly string[], holder: string, signal: AbortSignal): Promise<Lease | undefined> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        // A busy place ends when it knows what became of its pull.
        if (!place.isBusy) place.finish(undefined);
      };
      const leave = (): void => {
        signal.removeEventListener('abort', onAbort);
        this.places.delete(place);
        if (this.places.size === 0) this.rest();
        this.stand();
      };
      const place: Place<Lease> = {
        agentTypes: new Set(agentTypes),
        holder,
        signal,
        isBusy: false,
        finish: (lease) => {
          leave();
          resolve(lease);
        },
        fail: (error) => {
          leave();
          reject(error);
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.places.add(place);
      try {
        for (const agentType of place.agentTypes) this.listen(agentType);
      } catch (error) {
        place.fail(error);
        return;
      }
      this.round ??= setInterval(() => this.lookEverywhere(), ROUND_MS);
      if (performance.now() - this.lookedMs > ROUND_MS) this.lookEverywhere();
      else this.pump();
    });
  }

  /** The bus is away: nothing can be taken. */
  fail(error: unknown): void {
    for (const { standing } of this.agents.values()) standing.forget();
    for (const place of [...this.places]) if (!place.isBusy) place.fail(error);
  }

  /** The server may have sent only a part. */
  lookEverywhere(): void {
    this.lookedMs = performance.now();
    for (const { lanes, standing } of this.agents.values())
      for (const lane of lanes) if (!standing.waitsAt(lane.lane)) lane.expected = Math.max(1, lane.expected);
    this.pump();
  }

  /** Resolves when nothing that was pulled is under way any more. */
  async close(): Promise<void> {
    for (const place of [...this.places]) if (!place.isBusy) place.finish(undefined);
    this.rest();
    const agents = [...this.agents.values()];
    this.agents.clear();
    this.lanes = [];
    for (const { told, standing } of agents) {
      told?.unsubscribe();
      standing.takeBack();
    }
    await Promise.all(agents.map(({ standing }) => standing.drained()));
  }

  private rest(): void {
    clearInterval(this.round);
    this.round = undefined;
  }

  private listen(agentType: string): void {
    if (this.agents.has(agentType)) return;
    // Whether tasks wait already is not known.
    const lanes = Array.from({ length: LANES }, (_, lane) => ({ agentType, lane, expected: 1, wakes: 0 }));
    const standing = new StandingPulls(this.connection, agentType, (lane, message) =>
      this.arrived(lanes[lane]!, message),
    );
    this.agents.set(agentType, { lanes, told: undefined, standing });
    this.lanes = [...this.lanes, ...lanes];
  }

  private placeFor(agentType: string): Place<Lease> | undefined {
    for (const place of this.places) if (!place.isBusy && place.agentTypes.has(agentType)) return place;
    return undefined;
  }

  private pump(): void {
    if (!this.connection.connected) return;
    for (let looked = 0; looked < this.lanes.length && this.places.size > 0; looked++) {
      const lane = this.lanes[this.turn]!;
      this.turn = (this.turn + 1) % this.lanes.length;
      if (lane.expected <= 0) continue;
      const place = this.placeFor(lane.agentType);
      if (place === undefined) continue;
      lane.expected--;
      place.isBusy = true;
      void this.fill(place, this.pull(lane));
      looked = -1;
    }
    this.stand();
  }

  /** Where a place is free after all, nothing waits: pulls stand there until something does. */
  private stand(): void {
    if (!this.connection.connected) return;
    for (const [agentType, agent] of this.agents) {
      if (this.placeFor(agentType) === undefined) {
        agent.standing.takeBack();
        agent.told ??= this.hear(agentType, agent.lanes);
      } else {
        agent.standing.place();
        agent.told?.unsubscribe();
        agent.told = undefined;
      }
    }
  }

  private hear(agentType: string, lanes: readonly Lane[]): Subscription {
    return this.connection.subscribe(wakeSubjects(agentType), ({ subject }) => {
      const lane = lanes[Number(lastToken(subject))];
      if (lane === undefined) return;
      lane.wakes++;
      lane.expected++;
    });
  }

  private arrived(lane: Lane, message: Msg): void {
    const delivery = readDelivery(lane.agentType, lane.lane, message);
    if (delivery === undefined) {
      this.queue.refuse(message);
      this.pump();
      return;
    }
    const place = this.placeFor(lane.agentType);
    if (place === undefined) {
      this.passOn(delivery);
      return;
    }
    lane.expected = delivery.pending;
    place.isBusy = true;
    void this.fill(place, Promise.resolve(delivery));
    this.pump();
  }

  private async fill(place: Place<Lease>, coming: Promise<Delivery | undefined>): Promise<void> {
    let lease: Lease | undefined;
    try {
      const delivery = await coming;
      if (delivery !== undefined && place.signal.aborted) this.passOn(delivery);
      else if (delivery !== undefined) lease = await this.claim(delivery, place.holder);
      if (lease !== undefined && place.signal.aborted) {
        await lease.giveBack();
        lease = undefined;
      }
    } catch (error) {
      if (!this.connection.connected) {
        place.fail(error);
        return;
      }
      // The round looks there again.
    }
    place.isBusy = false;
    if (lease !== undefined || place.signal.aborted) place.finish(lease);
    this.pump();
  }

  private async pull(lane: Lane): Promise<Delivery | undefined> {
    const { wakes } = lane;
    const delivery = await this.queue.pull(lane.agentType, lane.lane);
    if (delivery === undefined) {
      if (lane.wakes === wakes) lane.expected = 0;
    } else if (lane.wakes === wakes) lane.expected = delivery.pending;
    return delivery;
  }

  /** Notify the consumers that have no pull there. */
  private passOn(delivery: Delivery): void {
    this.queue.release(delivery, 0);
    this.connection.publish(wakeSubject(delivery.agentType, delivery.lane));
  }
}
