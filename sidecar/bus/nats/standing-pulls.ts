/**
 * Pulls that wait at the server, one for each lane of an agent type: the next request of a lane comes at once, with no
 * question before it.
 */
import type { Msg, Subscription } from '@nats-io/transport-node';
import type { BusConnection } from './connection.ts';
import { LANES, laneConsumer, laneOfSubject, lastToken, queueStream } from './names.ts';

/** The server gives up a pull after so long, and says so. */
const PATIENCE_MS = 30_000;
/** A pull that is this old was lost with its server. */
const LOST_MS = PATIENCE_MS + 5_000;
const ASK = JSON.stringify({ batch: 1, expires: PATIENCE_MS * 1_000_000 });

/** The time is over, or there is nothing: the pull did its work. All other statuses tell of a disturbance. */
const TIME_IS_OVER = 408;

export class StandingPulls {
  private readonly connection: BusConnection;
  private readonly subject: string;
  private readonly onRequest: (lane: number, message: Msg) => void;
  /** When the pull of each lane was sent, on the monotonic clock; 0 where none waits. */
  private readonly sentMs = new Float64Array(LANES);
  private inbox = '';
  private subscription: Subscription | undefined;
  private readonly draining = new Set<Promise<void>>();

  /** @param onRequest gets each request, also one that was under way when the pulls were taken back */
  constructor(connection: BusConnection, agentType: string, onRequest: (lane: number, message: Msg) => void) {
    this.connection = connection;
    this.subject = `$JS.API.CONSUMER.MSG.NEXT.${queueStream(agentType)}.`;
    this.onRequest = onRequest;
  }

  /** Whether a request of the lane would come by itself. */
  waitsAt(lane: number): boolean {
    const sentMs = this.sentMs[lane]!;
    return sentMs !== 0 && performance.now() - sentMs < LOST_MS;
  }

  /** Places a pull at each lane that has none. */
  place(): void {
    for (let lane = 0; lane < LANES; lane++) {
      if (this.waitsAt(lane)) continue;
      this.subscription ??= this.listen();
      this.sentMs[lane] = performance.now();
      this.connection.publish(this.subject + laneConsumer(lane), ASK, undefined, `${this.inbox}.${lane}`);
    }
  }

  /** Takes all pulls back. What the server has sent before it knows still comes. */
  takeBack(): void {
    const { subscription } = this;
    if (subscription === undefined) return;
    this.reset();
    const drained = subscription.drain().catch(() => {});
    this.draining.add(drained);
    void drained.then(() => this.draining.delete(drained));
  }

  /** The connection was lost, and the pulls with it. */
  forget(): void {
    this.subscription?.unsubscribe();
    this.reset();
  }

  /** Resolves when nothing that was pulled is under way any more. */
  async drained(): Promise<void> {
    await Promise.all(this.draining);
  }

  private reset(): void {
    this.subscription = undefined;
    this.sentMs.fill(0);
  }

  private listen(): Subscription {
    this.inbox = this.connection.inbox();
    const { inbox } = this;
    return this.connection.subscribe(`${inbox}.*`, (message) => {
      const isCurrent = inbox === this.inbox && this.subscription !== undefined;
      const code = message.headers?.code ?? 0;
      const lane = code === 0 ? laneOfSubject(message.subject) : Number(lastToken(message.subject));
      if (isCurrent) this.sentMs[lane] = 0;
      if (code === 0) this.onRequest(lane, message);
      else if (code === TIME_IS_OVER && isCurrent) this.place();
    });
  }
}
