/**
 * Endpoints from DNS: every A and AAAA address of a name, looked up at intervals.
 *
 *              ┌──────────── due, or refresh() and a second since the last start ───────────┐
 *              ▼                                                                             │
 *     ┌── looking up ──── addresses ──────────────▶ emit if changed ───────────────────▶ waiting
 *     │        └───────── error, none, or 5 s ────▶ keep the last set, report once ────────▶ ┘
 *     └─ stop() in any state: later answers are dropped
 *
 * It asks the system's resolver (getaddrinfo) rather than a DNS server: the short names of Kubernetes resolve only with
 * search domains and /etc/hosts.
 */
import { lookup as systemLookup } from 'node:dns/promises';
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import { type Arrows, step } from '../../errors/illegal-step.ts';
import { AddressError, formatHostPort, isLiteral, parseAddress } from '../../net/address.ts';
import { connectionBackoffMs } from '../connection/reconnect.ts';
import { type Discovery, DiscoveryError } from './discovery.ts';

/** Resolves with all addresses of a host, as IP literals in any order. */
export type Lookup = (host: string) => Promise<readonly string[]>;

export interface DnsDiscoveryOptions {
  /** `host:port`. */
  address: string;
  /** The time from the start of one look-up to the next, ±10 %, so that the look-ups of a fleet spread out. */
  refreshMs: number;
  wheel: TimerWheel;
  now: () => number;
  /** Gives [0, 1); Math.random when absent. */
  random?: () => number;
  /** The system's resolver when absent. */
  lookup?: Lookup;
}

const LOOKUP_TIMEOUT_MS = 5000;
const MIN_INTERVAL_MS = 1000;
const REFRESH_JITTER = 0.1;
/**
 * Node can't cancel a getaddrinfo: it holds one of the four threads that files and DNS share until it returns. After one
 * that timed out another may start, but no third while both hang.
 */
const MAX_UNANSWERED = 2;
/** A larger set is a mistake; every sidecar uses the same part of it. */
const MAX_ENDPOINTS = 4096;

type LookupState = 'new' | 'waiting' | 'looking up' | 'stopped';

/** The arrows of the drawing above. */
export const LOOKUP_ARROWS: Arrows<LookupState> = {
  new: ['looking up', 'stopped'],
  'looking up': ['waiting', 'stopped'],
  waiting: ['looking up', 'stopped'],
  stopped: [],
};

export class DnsDiscovery implements Discovery {
  private readonly host: string;
  private readonly port: number;
  private readonly options: DnsDiscoveryOptions;
  private readonly random: () => number;
  private readonly lookup: Lookup;
  private readonly timer: Timer;
  private onEndpoints: (addresses: readonly string[]) => void = () => {};
  private onError: (error: Error) => void = () => {};
  private state: LookupState = 'new';
  private current = '';
  private failures = 0;
  private startedAtMs = Number.NEGATIVE_INFINITY;
  private refreshWanted = false;
  private unanswered = 0;
  /** Distinguishes the newest look-up from one that timed out. */
  private generation = 0;
  private newestAnswer = 0;

  /** Throws AddressError when `address` is not `host:port`. */
  constructor(options: DnsDiscoveryOptions) {
    const address = parseAddress(options.address);
    if (address.kind === 'unix') {
      throw new AddressError(
        `address "${options.address}": a socket has no DNS name; list it under endpoints`,
      );
    }
    if (!(options.refreshMs > 0)) {
      throw new RangeError(`refreshMs is ${options.refreshMs}; give a number of milliseconds above 0`);
    }
    this.host = address.host;
    this.port = address.port;
    this.options = options;
    this.random = options.random ?? Math.random;
    this.lookup = options.lookup ?? lookupAll;
    this.timer = new DiscoveryTimer(() => this.onTimeout());
  }

  start(onEndpoints: (addresses: readonly string[]) => void, onError: (error: Error) => void): void {
    if (this.state !== 'new') throw new DiscoveryError(`${this.host}: discovery has been started already`);
    this.onEndpoints = onEndpoints;
    this.onError = onError;
    if (isLiteral(this.host)) {
      // A literal never changes.
      this.enter('stopped');
      onEndpoints([formatHostPort(this.host, this.port)]);
    } else {
      this.begin();
    }
  }

  stop(): void {
    this.enter('stopped');
    this.options.wheel.cancel(this.timer);
    this.onEndpoints = () => {};
    this.onError = () => {};
  }

  refresh(): void {
    if (this.state === 'looking up') {
      // The running look-up may have started before the change.
      this.refreshWanted = true;
    } else if (this.state === 'waiting') {
      const earliestMs = this.startedAtMs + MIN_INTERVAL_MS;
      if (this.options.now() >= earliestMs) {
        this.begin();
      } else if (!this.refreshWanted) {
        this.refreshWanted = true;
        this.options.wheel.arm(this.timer, earliestMs);
      }
    }
  }

  private enter(state: LookupState): void {
    if (state !== this.state) this.state = step(LOOKUP_ARROWS, this.state, state);
  }

  private onTimeout(): void {
    if (this.state === 'waiting') this.begin();
    else if (this.state === 'looking up') this.failed(`no answer within ${LOOKUP_TIMEOUT_MS / 1000} s`);
  }

  private begin(): void {
    this.startedAtMs = this.options.now();
    this.refreshWanted = false;
    if (this.unanswered >= MAX_UNANSWERED) {
      this.failed(`${MAX_UNANSWERED} look-ups have had no answer at all`);
      return;
    }
    this.enter('looking up');
    this.options.wheel.arm(this.timer, this.startedAtMs + LOOKUP_TIMEOUT_MS);
    const generation = ++this.generation;
    this.unanswered++;
    this.lookUp().then(
      (addresses) => {
        this.unanswered--;
        if (this.state !== 'stopped') this.answered(generation, addresses);
      },
      (error: unknown) => {
        this.unanswered--;
        if (this.isRunning(generation)) this.failed(reasonOf(error));
      },
    );
  }

  /** Async, so that a resolver that throws counts like one that rejects. */
  private async lookUp(): Promise<readonly string[]> {
    return await this.lookup(this.host);
  }

  private isRunning(generation: number): boolean {
    return this.state === 'looking up' && generation === this.generation;
  }

  /** Uses also the answer of a look-up that timed out, unless a newer one has answered. */
  private answered(generation: number, found: readonly string[]): void {
    if (found.length === 0) {
      if (this.isRunning(generation)) this.failed('it has no addresses');
      return;
    }
    if (generation < this.newestAnswer) return;
    this.newestAnswer = generation;
    this.failures = 0;
    if (generation === this.generation) this.wait(this.intervalMs());
    this.emit([...new Set(found.map((address) => formatHostPort(address, this.port)))].sort());
  }

  private emit(addresses: readonly string[]): void {
    const kept = addresses.slice(0, MAX_ENDPOINTS);
    const joined = kept.join();
    if (joined === this.current) return;
    this.current = joined;
    if (kept.length < addresses.length) {
      this.onError(
        this.error(`it has ${addresses.length} addresses; the sidecar uses the first ${MAX_ENDPOINTS}`),
      );
    }
    this.onEndpoints(kept);
  }

  private failed(reason: string): void {
    this.failures++;
    // Retry sooner than a long refresh interval: an agent may just be starting.
    this.wait(Math.min(this.intervalMs(), connectionBackoffMs(this.failures, this.random())));
    if (this.failures > 1) return;
    const kept = this.current === '' ? '' : '; the last addresses stay in use';
    this.onError(this.error(`${reason}${kept}`));
  }

  private intervalMs(): number {
    return this.options.refreshMs * (1 - REFRESH_JITTER + 2 * REFRESH_JITTER * this.random());
  }

  private wait(intervalMs: number): void {
    this.enter('waiting');
    const nextMs = this.startedAtMs + (this.refreshWanted ? MIN_INTERVAL_MS : intervalMs);
    this.options.wheel.arm(this.timer, nextMs);
  }

  private error(reason: string): DiscoveryError {
    return new DiscoveryError(`DNS look-up of "${this.host}": ${reason}`);
  }
}

class DiscoveryTimer extends Timer {
  private readonly fire: () => void;

  constructor(fire: () => void) {
    super();
    this.fire = fire;
  }

  override onTimeout(): void {
    this.fire();
  }
}

async function lookupAll(host: string): Promise<readonly string[]> {
  const found = await systemLookup(host, { all: true, order: 'verbatim' });
  return found.map(({ address }) => address);
}

function reasonOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (code === 'ENOTFOUND')
    return 'the name does not exist; check its spelling and that the service has pods';
  if (code === 'EAI_AGAIN') return 'the DNS service does not answer; check that it can be reached';
  return error instanceof Error ? error.message : String(error);
}
