/**
 * Counters that the replicas of a service share over the bus, from the start of the process to its end, while the engine behind
 * them comes and goes. While there is none, each draw fails: what a replica has is all that it may use.
 */
import { basename, dirname, extname, join } from 'node:path';
import type { CounterWindow, Draw, SharedCounters } from '../policy/shared-counters.ts';
import { busPlace, isVerified } from './bus-url.ts';
import { LogUnavailableError } from './log/log-errors.ts';
import type { OpenShares } from './log/open-shares.ts';
import type { BusSettings } from './settings.ts';

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
/** A draw that comes while the engine is opened for the first time waits so long for it. */
const FIRST_TRY_MS = 5_000;

export class StandingShares implements SharedCounters {
  /** Why the counters can't be reached; '' while they can. */
  problem = 'they are being opened';
  private engine: OpenShares | undefined = undefined;
  private wanted = '';
  private generation = 0;
  private timer: NodeJS.Timeout | undefined = undefined;
  private firstTry: Promise<void> = Promise.resolve();

  /** @param name the name that the replicas of the service have in common */
  apply(bus: BusSettings, name: string): void {
    const { url, tls, credentialsFile, replicas, trustPublishers } = bus;
    const wanted = JSON.stringify([url, tls, credentialsFile, replicas, trustPublishers, name]);
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    this.end();
    if (url === undefined) return;
    const opening = this.tryToOpen(() => openShares(bus, url, name), ++this.generation, FIRST_WAIT_MS);
    this.firstTry = Promise.race([opening, late(FIRST_TRY_MS)]);
  }

  private async tryToOpen(
    open: () => Promise<OpenShares>,
    generation: number,
    waitMs: number,
  ): Promise<void> {
    try {
      const engine = await open();
      if (generation !== this.generation) {
        await engine.close();
        return;
      }
      this.engine = engine;
      this.problem = '';
    } catch (error) {
      if (generation !== this.generation) return;
      this.problem = error instanceof Error ? error.message : String(error);
      const next = Math.min(waitMs * 2, LONGEST_WAIT_MS);
      this.timer = setTimeout(() => void this.tryToOpen(open, generation, next), waitMs).unref();
    }
  }

  async take(draw: Draw): Promise<number> {
    return await (await this.current()).take(draw);
  }

  async giveBack(of: CounterWindow, amount: number): Promise<void> {
    await (await this.current()).giveBack(of, amount);
  }

  private async current(): Promise<OpenShares> {
    if (this.engine === undefined) await this.firstTry;
    if (this.engine !== undefined) return this.engine;
    throw new LogUnavailableError(`the shared counters can't be reached: ${this.problem}`, false);
  }

  private end(): void {
    this.generation++;
    clearTimeout(this.timer);
    const { engine } = this;
    this.engine = undefined;
    this.problem = 'they are closed';
    engine?.close().catch(() => {});
  }

  close(): void {
    this.wanted = '';
    this.end();
  }
}

/** What is read of the settings of a bus. */
type SharedBus = Pick<BusSettings, 'tls' | 'credentialsFile' | 'replicas' | 'trustPublishers'>;

/**
 * @param setUp by hand, for `outrigger bus setup`: whoever does it needs no rules of a sidecar
 * @throws errors whose messages say what to do
 */
export async function openShares(
  bus: SharedBus,
  url: string,
  name: string,
  setUp = false,
): Promise<OpenShares> {
  const place = busPlace(url);
  if (place.engine === 'local') {
    const { openFileShares } = await import('./local/file-shares.ts');
    const extension = extname(place.path);
    // Next to the file of the tasks, so that neither waits for the other: `tasks.db` has `tasks.shares.db`.
    const file = `${basename(place.path, extension)}.shares${extension}`;
    return await openFileShares(join(dirname(place.path), file));
  }
  const { openNatsShares } = await import('./nats/nats-shares.ts');
  const { servers } = place;
  const { tls, credentialsFile, replicas } = bus;
  const publisher = !setUp && isVerified({ ...bus, url }) ? name : undefined;
  return await openNatsShares({ servers, tls, credentialsFile, replicas, name, publisher, setUp });
}

function late(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
