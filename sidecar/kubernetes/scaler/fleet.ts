/**
 * The pods of one workload, measured again and again while somebody asks: which there are, what their sidecars count, and
 * whether they are busy.
 *
 * A round lists the pods and reads all their pages. Rounds come every few seconds, and at once when somebody asks and the last
 * one is older than a moment.
 */
import { TypedError } from '../../errors/typed-error.ts';
import { DeletionCosts } from './deletion-costs.ts';
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

interface Member {
  pod: Pod;
  /** The last one that was right. */
  page: PodPage | undefined;
  readAtMs: number;
  /** Whether its counters began after the fleet was first listed. */
  readonly isNew: boolean;
}

interface Reading {
  readonly member: Member;
  readonly page: PodPage;
}

/** The longest window of a trigger. */
const KEPT_MS = 600_000;
/** A round this young is good enough for who asks. */
const FRESH_MS = 2_000;
/** What was known longer ago is no longer known. */
const STALE_MS = 20_000;
const AT_ONCE = 32;
const WRITES_AT_ONCE = 8;

export class Fleet {
  private readonly options: FleetOptions;
  private readonly members = new Map<string, Member>();
  private readonly durations = new MergedDurations(KEPT_MS);
  private readonly provider = new ProviderBound();
  private readonly costs = new DeletionCosts();
  private listedAtMs = Number.NEGATIVE_INFINITY;
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
    return this.options.now() - this.listedAtMs > STALE_MS ? undefined : this.members.size;
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
    if (seconds === undefined && !hasOthers) return this.activeCalls > 0 ? 'busy' : 0;
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
    return this.activeCalls > 0 || this.durations.hasAny(windowMs, this.options.now());
  }

  /** The number of pods. @throws FleetError when too little is known of them */
  private known(): number {
    const { replicas } = this;
    const where = `${this.options.selection.selector} of ${this.options.selection.namespace}`;
    if (replicas === undefined)
      throw new FleetError(this.listProblem || `the pods ${where} are not known yet`);
    const read = [...this.fresh()].length;
    const ready = [...this.members.values()].filter(({ pod }) => pod.isReady).length;
    if (replicas > 0 && (read === 0 || read < ready / 2))
      throw new FleetError(
        `the metrics of ${read} of ${replicas} pods ${where} could be read${this.readProblem === '' ? '' : `: ${this.readProblem}`}`,
      );
    return replicas;
  }

  private get activeCalls(): number {
    let calls = 0;
    for (const { activeCalls } of this.fresh()) calls += activeCalls;
    return calls;
  }

  private *fresh(): Generator<PodPage> {
    const sinceMs = this.options.now() - STALE_MS;
    for (const { page, readAtMs } of this.members.values())
      if (page !== undefined && readAtMs >= sinceMs) yield page;
  }

  private async measureOnce(): Promise<void> {
    const problems: string[] = [];
    try {
      this.enter(await this.options.pods.list(this.options.selection));
      this.listProblem = '';
    } catch (error) {
      this.listProblem = (error as Error).message;
      problems.push(this.listProblem);
      // The pods that were there may be there still.
      if (this.replicas === undefined) this.members.clear();
    }
    const { read, leftOut } = await this.readPages(problems);
    const costsWritten = this.options.writesCosts ? await this.writeCosts(problems) : 0;
    this.options.onRound({ pods: this.members.size, read, leftOut, costsWritten, problems });
  }

  private enter(pods: readonly Pod[]): void {
    const lastListedAtMs = this.listedAtMs;
    const isFirst = lastListedAtMs === Number.NEGATIVE_INFINITY;
    this.listedAtMs = this.options.now();
    const there = new Set(pods.map(({ uid }) => uid));
    for (const uid of this.members.keys()) if (!there.has(uid)) this.members.delete(uid);
    for (const pod of pods) {
      const member = this.members.get(pod.uid);
      if (member === undefined)
        this.members.set(pod.uid, {
          pod,
          page: undefined,
          readAtMs: lastListedAtMs,
          isNew: !isFirst,
        });
      else member.pod = pod;
    }
  }

  private async readPages(problems: string[]): Promise<{ read: number; leftOut: number }> {
    const atMs = this.options.now();
    const members = [...this.members.values()].filter(({ pod }) => pod.ip !== '');
    const readings: Reading[] = [];
    let leftOut = 0;
    this.readProblem = '';
    const tell = ({ pod }: Member, error: unknown): void => {
      if (error instanceof PageError) leftOut++;
      else if (!pod.isReady) return;
      this.readProblem = `pod ${pod.name}: ${causeOf(error)}`;
      problems.push(this.readProblem);
    };
    await inTurns(members, AT_ONCE, async (member) => {
      try {
        readings.push({ member, page: await this.options.scrape(member.pod) });
      } catch (error) {
        tell(member, error);
      }
    });
    this.bounds = chosenBounds(this.votes(readings), this.bounds);
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

  /** One for each pod: a pod whose page could not be read just now has that of its last one. */
  private votes(readings: readonly Reading[]): Bounds[] {
    const pages = new Map<string, PodPage>();
    const sinceMs = this.options.now() - STALE_MS;
    for (const [uid, { page, readAtMs }] of this.members)
      if (page !== undefined && readAtMs >= sinceMs) pages.set(uid, page);
    for (const { member, page } of readings) pages.set(member.pod.uid, page);
    return [...pages.values()].flatMap((page) => {
      const bounds = boundsOf(page);
      return bounds === undefined ? [] : [bounds];
    });
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
    const sinceMs = this.options.now() - STALE_MS;
    const known = [...this.members.values()].flatMap(({ pod, page, readAtMs }) =>
      page === undefined || readAtMs < sinceMs
        ? []
        : [{ uid: pod.uid, cost: pod.cost, isBusy: page.activeCalls > 0 }],
    );
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

/** Does something for each, so many at a time. */
async function inTurns<T>(all: readonly T[], atOnce: number, act: (one: T) => Promise<void>): Promise<void> {
  const rest = all[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (let next = rest.next(); next.done !== true; next = rest.next()) await act(next.value);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, all.length) }, worker));
}

function causeOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? cause.message : message;
}
