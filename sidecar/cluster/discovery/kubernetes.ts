/** Discovers endpoints by listing and watching the EndpointSlices of a Service. */
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import { type Arrows, step } from '../../errors/illegal-step.ts';
import { connectionBackoffMs } from '../connection/reconnect.ts';
import { type Discovery, DiscoveryError } from './discovery.ts';
import { type EndpointSlice, readSlices, type SliceSelection } from './endpoint-slices.ts';

/** One event of a watch. */
export interface SliceEvent {
  readonly type: string;
  /** An EndpointSlice, or a Status when `type` is ERROR. */
  readonly object: EndpointSlice & { readonly code?: number; readonly message?: string };
}

/** The requests that discovery sends to the API server. */
export interface SliceSource {
  /** For messages: `NAMESPACE/SERVICE`. Known once `list` has been called. */
  readonly service: string;
  list(): Promise<{ readonly slices: readonly EndpointSlice[]; readonly resourceVersion: string }>;
  /** Calls `onEnd` once when the watch ends, without an error when the server ended it. @returns a function that stops it */
  watch(
    resourceVersion: string,
    onEvent: (event: SliceEvent) => void,
    onEnd: (error: Error | undefined) => void,
  ): () => void;
  /** The zone of this sidecar; undefined when it is unknown or does not matter. */
  zone(): Promise<string | undefined>;
}

export interface KubernetesDiscoveryOptions {
  readonly source: SliceSource;
  readonly port: string | number;
  readonly wheel: TimerWheel;
  readonly now: () => number;
  readonly random: () => number;
}

/** The resource version is too old: start again with a list. */
const GONE = 410;
const LIST_TIMEOUT_MS = 15_000;
/** The shortest time between two requests, even when the server ends each watch at once. */
const MIN_INTERVAL_MS = 1_000;
const MAX_BACKOFF_MS = 30_000;

type WatchState = 'new' | 'listing' | 'watching' | 'backing off' | 'stopped';

/** The arrows of the drawing of {@link KubernetesDiscovery}; a watch that goes on waits for its next request, too. */
export const WATCH_ARROWS: Arrows<WatchState> = {
  new: ['listing', 'stopped'],
  listing: ['watching', 'backing off', 'stopped'],
  watching: ['backing off', 'stopped'],
  'backing off': ['listing', 'watching', 'stopped'],
  stopped: [],
};

/**
 * Endpoints from the EndpointSlices of a Service: lists them once, then watches them.
 *
 *     listing ──answer──▶ watching ──server ended it──▶ watching again, from the last version seen
 *        ▲                   │  └── 410, too old ──▶ listing
 *        │                   ▼
 *        └── back-off ◀── failed          (1 s × 1.6 up to 30 s, jitter; the endpoints stay as they were)
 *
 * While the API can be reached, its answer counts: a Service without a ready pod has no endpoints. While it can't be
 * reached, the last known endpoints stay in use.
 */
export class KubernetesDiscovery extends Timer implements Discovery {
  private readonly options: KubernetesDiscoveryOptions;
  private onEndpoints: (addresses: readonly string[], inZone: readonly string[]) => void = () => {};
  private onError: (error: Error) => void = () => {};
  private state: WatchState = 'new';
  private readonly slices = new Map<string, EndpointSlice>();
  private resourceVersion = '';
  private zone: string | undefined = undefined;
  private zoneError: DiscoveryError | undefined = undefined;
  private emitted: string | undefined = undefined;
  private failures = 0;
  private startedAtMs = Number.NEGATIVE_INFINITY;
  private endWatch: () => void = () => {};
  /** Distinguishes the present request from abandoned ones. */
  private generation = 0;

  constructor(options: KubernetesDiscoveryOptions) {
    super();
    this.options = options;
  }

  start(
    onEndpoints: (addresses: readonly string[], inZone?: readonly string[]) => void,
    onError: (error: Error) => void,
  ): void {
    this.onEndpoints = onEndpoints;
    this.onError = onError;
    this.options.source.zone().then(
      (zone) => {
        this.zone = zone;
        if (this.emitted !== undefined) this.emit();
      },
      // Calls go to all zones then. Reported after the first list: an error before it would mean that the list failed.
      (error: Error) => {
        this.zoneError = new DiscoveryError(error.message);
        if (this.emitted !== undefined) this.reportZoneError();
      },
    );
    this.list();
  }

  private reportZoneError(): void {
    if (this.zoneError !== undefined) this.onError(this.zoneError);
    this.zoneError = undefined;
  }

  stop(): void {
    this.enter('stopped');
    this.generation++;
    this.options.wheel.cancel(this);
    this.endWatch();
    this.onEndpoints = () => {};
    this.onError = () => {};
  }

  /** Connections fail: if no watch is open, send the next request early. */
  refresh(): void {
    if (this.state !== 'backing off') return;
    const earliestMs = this.startedAtMs + MIN_INTERVAL_MS;
    this.options.wheel.arm(this, Math.max(earliestMs, this.options.now() + 1));
  }

  override onTimeout(): void {
    if (this.state === 'listing') this.failed(`no answer within ${LIST_TIMEOUT_MS / 1_000} s`);
    else if (this.state === 'backing off') this.resume();
  }

  private enter(state: WatchState): void {
    if (state !== this.state) this.state = step(WATCH_ARROWS, this.state, state);
  }

  private resume(): void {
    if (this.resourceVersion === '') this.list();
    else this.watch();
  }

  private list(): void {
    const { wheel, now, source } = this.options;
    const generation = ++this.generation;
    this.enter('listing');
    this.startedAtMs = now();
    wheel.arm(this, this.startedAtMs + LIST_TIMEOUT_MS);
    source.list().then(
      ({ slices, resourceVersion }) => {
        if (generation !== this.generation) return;
        this.failures = 0;
        this.slices.clear();
        for (const slice of slices) this.slices.set(slice.metadata?.name ?? '', slice);
        this.resourceVersion = resourceVersion;
        if (slices.length === 0)
          this.onError(this.error('has no EndpointSlices; check the names of Service and namespace'));
        this.emit();
        this.reportZoneError();
        this.watch();
      },
      (error: Error) => {
        if (generation === this.generation) this.failed(error.message);
      },
    );
  }

  private watch(): void {
    const { wheel, now, source } = this.options;
    const generation = ++this.generation;
    this.enter('watching');
    this.startedAtMs = now();
    wheel.cancel(this);
    this.endWatch = source.watch(
      this.resourceVersion,
      (event) => {
        if (generation === this.generation) this.onEvent(event);
      },
      (error) => {
        if (generation !== this.generation) return;
        if (error === undefined) this.waitFor(MIN_INTERVAL_MS);
        else if (codeOf(error) === GONE) this.begin();
        else this.failed(error.message);
      },
    );
  }

  private onEvent({ type, object }: SliceEvent): void {
    if (type === 'ERROR') {
      this.endWatch();
      if (object.code === GONE) this.begin();
      else this.failed(object.message ?? `the API server ended the watch with ${object.code}`);
      return;
    }
    this.failures = 0;
    const { name = '', resourceVersion = '' } = object.metadata ?? {};
    if (resourceVersion !== '') this.resourceVersion = resourceVersion;
    if (type === 'ADDED' || type === 'MODIFIED') this.slices.set(name, object);
    else if (type === 'DELETED') this.slices.delete(name);
    else return;
    this.emit();
  }

  private emit(): void {
    const selection: SliceSelection = { port: this.options.port, zone: this.zone };
    const { addresses, inZone } = readSlices(this.slices.values(), selection);
    const joined = `${addresses.join()};${inZone.join()}`;
    if (joined === this.emitted) return;
    this.emitted = joined;
    this.onEndpoints(addresses, inZone);
  }

  /** Starts again with a list: the resource version is no longer valid. */
  private begin(): void {
    this.resourceVersion = '';
    this.waitFor(MIN_INTERVAL_MS);
  }

  private failed(reason: string): void {
    this.failures++;
    const { random } = this.options;
    this.endWatch();
    this.waitFor(Math.min(connectionBackoffMs(this.failures, random()), MAX_BACKOFF_MS));
    if (this.failures > 1) return;
    const kept = this.emitted === undefined ? '' : '; the last endpoints stay in use';
    this.onError(this.error(`${reason}${kept}`));
  }

  private waitFor(intervalMs: number): void {
    this.generation++;
    this.enter('backing off');
    const { wheel, now } = this.options;
    wheel.arm(this, Math.max(this.startedAtMs + intervalMs, now() + 1));
  }

  private error(reason: string): DiscoveryError {
    return new DiscoveryError(`EndpointSlices of ${this.options.source.service}: ${reason}`);
  }
}

function codeOf(error: Error & { readonly statusCode?: number }): number | undefined {
  return error.statusCode;
}
