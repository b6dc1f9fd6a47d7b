/**
 * Keeps counters that the replicas of a service share on NATS JetStream: one message a counter and window, replaced only where
 * nobody has written in between, and gone some time after its window.
 */
import { DiscardPolicy, RetentionPolicy, StorageType } from '@nats-io/jetstream';
import { headers } from '@nats-io/transport-node';
import { type CounterWindow, type Draw, drawn } from '../../policy/shared-counters.ts';
import { LogUnavailableError } from '../log/log-errors.ts';
import type { OpenShares } from '../log/open-shares.ts';
import { BusConnection } from './connection.ts';
import { bytesOf } from './head.ts';
import { encodeToken, sharesStream, sharesSubjects } from './names.ts';
import type { LinkOptions } from './nats-options.ts';
import { ensureStream } from './streams.ts';

const OPEN_MS = 5_000;
/** Each loses to another replica at most so often in a row. */
const MAX_TRIES = 100;
/** The clocks of replicas may differ. */
const KEPT_AFTER_MS = 3_600_000;
/** Above what any number of callers needs. */
const MAX_BYTES = 64 << 20;

export interface NatsSharesOptions extends LinkOptions {
  /** The name of the service whose replicas share the counters. */
  readonly name: string;
  readonly replicas: number;
  /** For `outrigger bus setup`: a stream that is there gets these settings. */
  readonly setUp?: boolean;
}

/** @throws LogSetupError or LogUnavailableError, whose messages say what to do */
export async function openNatsShares(options: NatsSharesOptions): Promise<OpenShares> {
  const shares = new NatsShares(options);
  await shares.open();
  return shares;
}

class NatsShares implements OpenShares {
  private readonly connection: BusConnection;
  private readonly stream: string;
  private readonly prefix: string;

  constructor({ name, replicas, setUp, ...link }: NatsSharesOptions) {
    this.stream = sharesStream(name);
    this.prefix = sharesSubjects(name);
    this.connection = new BusConnection(link, async (jsm) => {
      const settings = {
        name: this.stream,
        subjects: [`${this.prefix}.*.*`],
        storage: StorageType.File,
        retention: RetentionPolicy.Limits,
        discard: DiscardPolicy.New,
        max_bytes: MAX_BYTES,
        max_msgs_per_subject: 1,
        allow_msg_ttl: true,
        num_replicas: replicas,
        allow_direct: true,
      };
      await ensureStream(jsm, settings, setUp);
    });
  }

  async open(): Promise<void> {
    await this.connection.open(OPEN_MS);
  }

  take(draw: Draw): Promise<number> {
    return this.change(draw, (taken) => drawn(draw, taken));
  }

  async giveBack(of: CounterWindow, amount: number): Promise<void> {
    await this.change(of, (taken) => -Math.min(taken, amount));
  }

  /** @param by says how much to add to what is taken; 0 changes nothing */
  private async change(
    { counter, window, endsAtMs }: CounterWindow,
    by: (taken: number) => number,
  ): Promise<number> {
    const keptMs = Math.max(0, endsAtMs - Date.now()) + KEPT_AFTER_MS;
    const subject = `${this.prefix}.${encodeToken(counter)}.${window}`;
    for (let turn = 0; turn < MAX_TRIES; turn++) {
      const last = await this.connection.directLast(this.stream, subject);
      const taken = last === undefined ? 0 : Number(bytesOf(last.data).toString());
      const added = by(taken);
      if (added === 0) return 0;
      const body = Buffer.from(String(taken + added));
      // What is stored with an answer that is lost counts as taken, and nobody uses it: the total is never exceeded.
      const stored = await this.connection.storeAt(subject, body, headers(), last?.seq ?? 0, keptMs);
      if (stored !== undefined) return added;
    }
    throw new LogUnavailableError('too many replicas change a shared counter at once; try again', false);
  }

  async close(): Promise<void> {
    await this.connection.close();
  }
}
