/**
 * Keeps one caller of the service: which models it may name, and what it may use of them.
 *
 *     request ──▶ concurrent ──▶ requests and tokens of the minute ──▶ runs ──▶ settled with what it used
 *                     └── above: refused       └── above: refused, until the minute ends
 */
import type { Socket } from 'node:net';
import { type Fetched, LeasedShare, type SharePart } from '../../policy/leased-share.ts';
import { nanosOf } from '../../policy/money.ts';
import type { SharedCounters } from '../../policy/shared-counters.ts';
import type { TokenSource } from '../../policy/token-budget.ts';
import { matcherOf } from '../shared/model-pattern.ts';
import type { LlmEvents } from '../shared/request-observer.ts';
import type { LlmCallerSettings } from '../shared/service-settings.ts';
import { DayBudget } from './day-budget.ts';

export interface ServiceEnvironment {
  /** Milliseconds that never go back. */
  readonly clock: () => number;
  /** The environment variables, for keys. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly events: Pick<LlmEvents, 'onCallerKeys'>;
  /** Milliseconds since 1970. */
  readonly wallClock: () => number;
  /** What replicas share; undefined where each has its part. */
  readonly counters: () => SharedCounters | undefined;
}

/** Why a caller's request is refused. */
export interface CallerRefusal {
  readonly reason: 'rate_limited' | 'limits_unavailable';
  /** In words for the caller. */
  readonly message: string;
  readonly retryAfterMs: number;
}

/** A request that its caller's limits admit. */
export interface Visit {
  /** The caller has its answer, or has left. */
  leave(): void;
  /** Replaces the tokens that were reserved by those that were used. Further calls do nothing. */
  settle(usedTokens: number): void;
}

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
/** Some of the running requests have ended by then. */
const CONCURRENT_AGAIN_MS = 1_000;
const AWAY_AGAIN_MS = 5_000;
/** Other requests may take what was fetched for this one. */
const MAX_FETCHES = 8;
const MAX_NAMES = 50;
/** A quarter of what the listener takes, so that one caller leaves room for others. */
const MAX_CONNECTIONS = 1_024;

interface ConnectionObjection {
  readonly reason: 'overloaded';
  readonly message: string;
  readonly more: { readonly retryAfterMs: number; readonly clientDecides: true };
}

export class ServiceCaller {
  readonly name: string;
  private current: LlmCallerSettings | undefined = undefined;
  private matchers: readonly ((model: string) => boolean)[] = [];
  private readonly environment: ServiceEnvironment;
  private readonly requests: LeasedShare;
  private readonly tokens: LeasedShare;
  private readonly dayTokens: LeasedShare;
  private readonly dayMoney: LeasedShare;
  private readonly day: DayBudget;
  private readonly moneyOfDay: DayBudget;
  private readonly sockets = new WeakSet<Socket>();
  private connections = 0;
  /** Requests that run. */
  active = 0;

  constructor(name: string, environment: ServiceEnvironment) {
    this.name = name;
    this.environment = environment;
    const { counters } = environment;
    this.requests = new LeasedShare(`${name}.requests`, MINUTE_MS, counters);
    this.tokens = new LeasedShare(`${name}.tokens`, MINUTE_MS, counters);
    this.dayTokens = new LeasedShare(`${name}.day-tokens`, DAY_MS, counters);
    this.dayMoney = new LeasedShare(`${name}.day-nanos`, DAY_MS, counters);
    this.day = new DayBudget(this.dayTokens, name, environment.wallClock, 'tokens');
    this.moneyOfDay = new DayBudget(this.dayMoney, name, environment.wallClock, 'usd');
  }

  get settings(): LlmCallerSettings {
    return this.current!;
  }

  get shares(): readonly LeasedShare[] {
    return [this.requests, this.tokens, this.dayTokens, this.dayMoney];
  }

  apply(settings: LlmCallerSettings, replicas: number): void {
    this.current = settings;
    this.matchers = settings.models.map(matcherOf);
    this.requests.configure(settings.limits.requestsPerMinute, replicas);
    this.tokens.configure(settings.limits.tokensPerMinute, replicas);
    this.dayTokens.configure(settings.budget.tokensPerDay, replicas);
    this.dayMoney.configure(nanosOf(settings.budget.usdPerDay), replicas);
  }

  /** What bounds the money of its requests of a day; undefined without a bound. */
  get money(): TokenSource | undefined {
    return this.dayMoney.isBound ? this.moneyOfDay : undefined;
  }

  /** What bounds the tokens of its requests of a day; undefined without a bound. */
  get budget(): TokenSource | undefined {
    return this.dayTokens.isBound ? this.day : undefined;
  }

  /** The tokens of this day that this replica holds for it; undefined without a bound. */
  get dayTokensLeft(): number | undefined {
    return this.dayTokens.isBound ? this.day.left : undefined;
  }

  /** Whether it may name only some models, so that each request must say which one. */
  get isRestricted(): boolean {
    return this.matchers.length > 0;
  }

  mayName(model: string): boolean {
    return !this.isRestricted || this.matchers.some((matches) => matches(model));
  }

  /** Says that a model is not for this caller, with the names that are. */
  notAllowed(model: string): string {
    const { models } = this.settings;
    const more = models.length > MAX_NAMES ? ', …' : '';
    return `there is no model ${JSON.stringify(model)} for the caller ${this.name}; there are ${models.slice(0, MAX_NAMES).join(', ')}${more} (llm.callers[].models)`;
  }

  /** Counts a connection once, and returns why there may not be another one. */
  objectionToConnection(socket: Socket): ConnectionObjection | undefined {
    if (this.sockets.has(socket)) return undefined;
    if (this.connections >= MAX_CONNECTIONS)
      return {
        reason: 'overloaded',
        message: `the caller ${this.name} has ${this.connections} connections, which is the most for one caller; use them for more requests`,
        more: { retryAfterMs: CONCURRENT_AGAIN_MS, clientDecides: true },
      };
    this.sockets.add(socket);
    this.connections++;
    socket.once('close', () => this.connections--);
    return undefined;
  }

  /**
   * Returns why it may not open a WebSocket, in words for it: nothing that passes there is read.
   *
   * @param models all that the request names; servers differ in which one they take
   */
  forbidsWebSocket(models: readonly string[]): string | undefined {
    const other = (models.length === 0 ? [''] : models).find((model) => !this.mayName(model));
    if (other !== undefined) return this.notAllowed(other);
    if (![this.tokens, this.dayTokens, this.dayMoney].some(({ isBound }) => isBound)) return undefined;
    return `the tokens of a WebSocket can't be counted, and those of the caller ${this.name} are limited; use HTTP`;
  }

  /**
   * Admits a request, at once or when the shares that it needs have come.
   *
   * @param tokens the most that it may use
   */
  enter(tokens: number, onDecided: (decision: Visit | CallerRefusal) => void): void {
    const { concurrent } = this.settings.limits;
    if (concurrent > 0 && this.active >= concurrent) {
      onDecided({
        reason: 'rate_limited',
        message: `the caller ${this.name} has ${this.active} requests running, which is its limit (llm.callers[].limits.concurrent); try again when one has ended`,
        retryAfterMs: CONCURRENT_AGAIN_MS,
      });
      return;
    }
    this.active++;
    const taken = this.take(tokens);
    if (taken !== undefined) onDecided(this.visit(taken));
    else void this.fetchAndTake(tokens).then(onDecided);
  }

  private async fetchAndTake(tokens: number): Promise<Visit | CallerRefusal> {
    const { requests, environment } = this;
    const { wallClock } = environment;
    for (let turn = 0; turn < MAX_FETCHES; turn++) {
      const nowMs = wallClock();
      const isShortOfRequests = requests.isBound && requests.left(nowMs) < 1;
      const fetched = isShortOfRequests
        ? await requests.fetch(1, wallClock)
        : await this.tokens.fetch(this.tokensOf(tokens), wallClock);
      if (fetched !== 'more') return this.refusal(isShortOfRequests, fetched);
      const taken = this.take(tokens);
      if (taken !== undefined) return this.visit(taken);
    }
    return this.refusal(false, 'none');
  }

  private refusal(isOfRequests: boolean, fetched: Exclude<Fetched, 'more'>): CallerRefusal {
    this.active--;
    const key = isOfRequests ? 'requests_per_minute' : 'tokens_per_minute';
    const share = isOfRequests ? this.requests : this.tokens;
    if (fetched === 'away') {
      const message = `the bus that shares llm.callers[].limits.${key} among replicas can't be reached, and this replica has used what it had of the caller ${this.name}; try again later`;
      return { reason: 'limits_unavailable', message, retryAfterMs: AWAY_AGAIN_MS };
    }
    const nowMs = this.environment.wallClock();
    return {
      reason: 'rate_limited',
      message: `the caller ${this.name} has used its ${share.most} ${isOfRequests ? 'requests' : 'tokens'} of this minute (llm.callers[].limits.${key}); try again when it is over`,
      retryAfterMs: share.endsAtMs(nowMs) - nowMs,
    };
  }

  /** Takes a request and its tokens of the minute; undefined where one of them is not there. */
  private take(tokens: number): Taken | undefined {
    const nowMs = this.environment.wallClock();
    let request: SharePart | undefined;
    if (this.requests.isBound) {
      request = this.requests.reserve(1, nowMs);
      if (request === undefined) return undefined;
    }
    if (!this.tokens.isBound) return { tokens: undefined };
    const part = this.tokens.reserve(this.tokensOf(tokens), nowMs);
    if (part !== undefined) return { tokens: part };
    if (request !== undefined) this.requests.settle(request, 0, nowMs);
    return undefined;
  }

  /** A request that may use more than the limit of a minute needs all of it. */
  private tokensOf(tokens: number): number {
    return Math.min(tokens, this.tokens.most);
  }

  private visit({ tokens }: Taken): Visit {
    let isIn = true;
    return {
      leave: () => {
        if (isIn) this.active--;
        isIn = false;
      },
      settle: (usedTokens) => {
        if (tokens !== undefined) this.tokens.settle(tokens, usedTokens, this.environment.wallClock());
      },
    };
  }
}

/** What a request has taken of its caller's minute. */
interface Taken {
  readonly tokens: SharePart | undefined;
}
