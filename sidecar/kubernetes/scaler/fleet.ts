/**
 * The pods of one workload, measured again and again while somebody asks: which there are, what their sidecars count, and
 * whether they are busy.
 *
 * A round lists the pods and reads all their pages. Rounds come every few seconds, and at once when somebody asks and the last
 * one is older than a moment.
 */
import { TypedError } from '../../errors/typed-error.ts';
import { DeletionCosts } from './deletion-costs.ts';
import { inTurns } from './in-turns.ts';
import { type Member, Members, type Reading } from './members.ts';
import { MergedDurations, quantileOf } from './merged-durations.ts';
import { PageError } from './page-error.ts';
import type { PodPage } from './pod-page.ts';
import type { Pod, Pods } from './pods.ts';
import { ProviderBound } from './provider-bound.ts';
import { type Bounds, boundsOf, chosenBounds, covers } from './shared-bounds.ts';
import type { PodSelection } from './trigger.ts';

/** The fleet is not known well enough to answer; the message says why. */
export class FleetError extends TypedError {
  override readonly name = 'FleetError';
  override readonly source = 'upstream';
  override readonly isSafeToRetry = true;
}

export interface FleetOptions {
  readonly selection: PodSelection;
  readonly pods: Pods;
  readonly scrape: (pod: Pod) => Promise<PodPage>;
  readonly writesCosts: boolean;
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number;
  readonly onRound: (outcome: RoundOutcome) => void;
}

export interface RoundOutcome {
  readonly pods: number;
  readonly read: number;
  /** Those that were read, and are wrong or have other bounds than the rest. */
  readonly leftOut: number;
  readonly costsWritten: number;
  /** What failed, a text each. */
  readonly problems: readonly string[];
}

/** The longest window of a trigger. */
const KEPT_MS = 600_000;
/** A round this young is good enough for who asks. */
const FRESH_MS = 2_000;
const AT_ONCE = 32;
const WRITES_AT_ONCE = 8;

export class Fleet {
  private readonly options: FleetOptions;
  private readonly members: Members;
  private readonly durations = new MergedDurations(KEPT_MS);
  private readonly provider = new ProviderBound();
  private readonly costs = new DeletionCosts();
  private endedAtMs = Number.NEGATIVE_INFINITY;
  private listProblem = '';
  private readProblem = '';
  private round: Promise<void> | undefined = undefined;
  /** At which the histograms are merged; undefined while no pod has counted any call. */
  private bounds: Bounds | undefined = undefined;
  /** Whether the growth of some pod's counters is known. */
  private isMeasured = false;

  constructor(options: FleetOptions) {
    this.options = options;
    this.members = new Members(options.now);
  }

  /** Measures, unless the last round is young enough. Never rejects: what is not known the readings below say. */
  async measure(maxAgeMs = FRESH_MS): Promise<void> {
    if (this.round === undefined && this.options.now() - this.endedAtMs <= maxAgeMs) return;
    this.round ??= this.measureOnce().finally(() => {
      this.round = undefined;
      this.endedAtMs = this.options.now();
    });
    await this.round;
  }

  /** How many pods there are; undefined when that is not known. */
  get replicas(): number | undefined {
    return this.members.isStale ? undefined : this.members.size;
  }

  /** Whether the work waits for the quota of the models' provider, as far as is known. */
  get isProviderBound(): boolean {
    return this.provider.isBound(this.options.now());
  }

  /**
   * The 99th percentile of the calls that ended within the window, in seconds; 0 when there was none, and `busy` while the only
   * calls are in flight.
   *
   * @throws FleetError when it is not known
   */
  p99(windowMs: number): number | 'busy' {
    if (this.known() === 0) return 0;
    if (!this.isMeasured)
      throw new FleetError('the pods are measured since a moment ago; ask again in some seconds');
    const { calls, hasOthers } = this.durations.within(windowMs, this.options.now(), this.bounds);
    const seconds = quantileOf(calls, 0.99);
    if (seconds === undefined && !hasOthers) return this.members.activeCalls > 0 ? 'busy' : 0;
    if (seconds === undefined || !Number.isFinite(seconds) || seconds <= 0)
      throw new FleetError(
        'the calls within the window were counted at other bounds than those of most pods; ask again after the window',
      );
    return seconds;
  }

  /**
   * Whether calls are in flight, or ended within the window.
   *
   * @throws FleetError when that is not known
   */
  isActive(windowMs: number): boolean {
    if (this.known() === 0) return false;
    return this.members.activeCalls > 0 || this.durations.hasAny(windowMs, this.options.now());
  }

  /** The number of pods. @throws FleetError when too little is known of them */
  private known(): number {
    const { replicas } = this;
    const where = `${this.options.selection.selector} of ${this.options.selection.namespace}`;
    if (replicas === undefined)
      throw new FleetError(this.listProblem || `the pods ${where} are not known yet`);
    const read = this.members.known.length;
    if (replicas > 0 && (read === 0 || read < this.members.ready / 2))
      throw new FleetError(
        `the metrics of ${read} of ${replicas} pods ${where} could be read${this.readProblem === '' ? '' : `: ${this.readProblem}`}`,
      );
    return replicas;
  }

  private async measureOnce(): Promise<void> {
    const problems: string[] = [];
    try {
      this.members.enter(await this.options.pods.list(this.options.selection));
      this.listProblem = '';
    } catch (error) {
      this.listProblem = (error as Error).message;
      problems.push(this.listProblem);
      // The pods that were there may be there still.
      if (this.members.isStale) this.members.clear();
    }
    const { read, leftOut } = await this.readPages(problems);
    const costsWritten = this.options.writesCosts ? await this.writeCosts(problems) : 0;
    this.options.onRound({ pods: this.members.size, read, leftOut, costsWritten, problems });
  }

  private async readPages(problems: string[]): Promise<{ read: number; leftOut: number }> {
    const atMs = this.options.now();
    const readings: Reading[] = [];
    let leftOut = 0;
    this.readProblem = '';
    const tell = ({ pod }: Member, error: unknown): void => {
      if (error instanceof PageError) leftOut++;
      else if (!pod.isReady) return;
      this.readProblem = `pod ${pod.name}: ${causeOf(error)}`;
      problems.push(this.readProblem);
    };
    await inTurns(this.members.reachable, AT_ONCE, async (member) => {
      try {
        readings.push({ member, page: await this.options.scrape(member.pod) });
      } catch (error) {
        tell(member, error);
      }
    });
    this.bounds = chosenBounds(this.members.boundsWith(readings), this.bounds);
    let read = 0;
    for (const reading of readings) {
      try {
        this.take(reading, atMs);
        read++;
      } catch (error) {
        tell(reading.member, error);
      }
    }
    return { read, leftOut };
  }

  /** @throws PageError when the page does not fit those of the other pods, or the one before */
  private take({ member, page }: Reading, atMs: number): void {
    const bounds = boundsOf(page);
    if (bounds !== undefined && this.bounds !== undefined && !covers(new Set(bounds), this.bounds))
      throw new PageError('its histograms lack bounds that those of most pods have');
    const elapsedMs = atMs - member.readAtMs;
    // A pod's counts from before it was first seen belong to no window, nor do counts from long ago.
    const isFirst = elapsedMs > KEPT_MS || (member.page === undefined && !member.isNew);
    const before = isFirst ? page : member.page;
    this.durations.add(atMs, page, before, elapsedMs);
    this.provider.add(atMs, page, before);
    member.page = page;
    member.readAtMs = this.options.now();
    if (!isFirst) this.isMeasured = true;
  }

  private async writeCosts(problems: string[]): Promise<number> {
    const known = this.members.known.map(({ pod, page }) => ({
      uid: pod.uid,
      cost: pod.cost,
      isBusy: page.activeCalls > 0,
    }));
    let written = 0;
    await inTurns(this.costs.due(this.options.now(), known), WRITES_AT_ONCE, async ({ uid, cost }) => {
      const member = this.members.get(uid);
      if (member === undefined) return;
      try {
        await this.options.pods.writeCost(this.options.selection.namespace, member.pod, cost);
        written++;
      } catch (error) {
        problems.push((error as Error).message);
      }
    });
    return written;
  }
}

function causeOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? cause.message : message;
}
