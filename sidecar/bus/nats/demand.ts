/**
 * The free places of this sidecar, and the lanes of the queues that may have work for them. For each free place at most one
 * request is pulled, so that none waits here while another sidecar is free.
 *
 * The server tells all of us when a task is stored: a lane that has work is remembered. One of us is told apart from the
 * others, and pulls at once. Lanes are pulled in turns, and so callers get their turns. A slow round over all lanes finds
 * what was delivered again, and what nobody was told.
 */
import type { Subscription } from '@nats-io/transport-node';
import type { BusConnection } from './connection.ts';
import { LANES, lastToken, wakeSubject, wakeSubjects } from './names.ts';
import type { Delivery, Queue } from './queue.ts';

const ROUND_MS = 1_000;
const PULLERS = 'outrigger';

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
  readonly told: Subscription;
  /** Only while a place of ours is free. */
  chosen: Subscription | undefined;
}

export class Demand<Lease extends { giveBack(): Promise<void> }> {
  private readonly connection: BusConnection;
  private readonly queue: Pick<Queue, 'pull' | 'release'>;
  private readonly claim: (delivery: Delivery, holder: string) => Promise<Lease | undefined>;
  private readonly places = new Set<Place<Lease>>();
  private readonly agents = new Map<string, Agent>();
  private lanes: readonly Lane[] = [];
  private turn = 0;
  private round: NodeJS.Timeout | undefined;

  constructor(
    connection: BusConnection,
    queue: Pick<Queue, 'pull' | 'release'>,
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
      this.pump();
    });
  }

  /** The bus is away: nothing can be taken. */
  fail(error: unknown): void {
    for (const place of [...this.places]) if (!place.isBusy) place.fail(error);
  }

  /** The bus is back: what was told in between is not known. */
  lookEverywhere(): void {
    for (const lane of this.lanes) lane.expected = Math.max(1, lane.expected);
    this.pump();
  }

  close(): void {
    for (const place of [...this.places]) if (!place.isBusy) place.finish(undefined);
    this.rest();
    for (const { told } of this.agents.values()) told.unsubscribe();
    this.agents.clear();
    this.lanes = [];
  }

  private rest(): void {
    clearInterval(this.round);
    this.round = undefined;
  }

  private listen(agentType: string): void {
    const known = this.agents.get(agentType);
    if (known !== undefined) {
      known.chosen ??= this.beChosen(agentType, known.lanes);
      return;
    }
    // Whether tasks wait already is not known.
    const lanes = Array.from({ length: LANES }, (_, lane) => ({ agentType, lane, expected: 1, wakes: 0 }));
    const told = this.connection.subscribe(wakeSubjects(agentType), ({ subject }) => {
      const lane = lanes[Number(lastToken(subject))];
      if (lane === undefined) return;
      lane.wakes++;
      lane.expected++;
    });
    this.agents.set(agentType, { lanes, told, chosen: this.beChosen(agentType, lanes) });
    this.lanes = [...this.lanes, ...lanes];
  }

  private beChosen(agentType: string, lanes: readonly Lane[]): Subscription {
    const callback = ({ subject }: { readonly subject: string }): void => {
      const lane = lanes[Number(lastToken(subject))];
      if (lane === undefined) return;
      if (this.placeFor(agentType) === undefined) {
        this.leaveChoice(agentType);
        // Another may have a free place.
        this.connection.publish(wakeSubject(agentType, lane.lane));
        return;
      }
      lane.expected = Math.max(1, lane.expected);
      this.pump();
    };
    return this.connection.subscribe(wakeSubjects(agentType), callback, PULLERS);
  }

  private leaveChoice(agentType: string): void {
    const agent = this.agents.get(agentType);
    agent?.chosen?.unsubscribe();
    if (agent !== undefined) agent.chosen = undefined;
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
      void this.fill(place, lane);
      looked = -1;
    }
  }

  private async fill(place: Place<Lease>, lane: Lane): Promise<void> {
    let lease: Lease | undefined;
    try {
      const delivery = await this.pull(lane);
      if (delivery !== undefined && place.signal.aborted) this.passOn(delivery, lane);
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

  private passOn(delivery: Delivery, lane: Lane): void {
    this.queue.release(delivery, 0);
    lane.expected++;
  }
}
