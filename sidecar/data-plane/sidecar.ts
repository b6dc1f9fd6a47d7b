/** Puts the data plane together, reconfigures it and drains it. */
import { randomUUID } from 'node:crypto';
import { StandingShares } from '../bus/standing-shares.ts';
import { heldNow } from '../clock/held-time.ts';
import { TimerWheel } from '../clock/timer-wheel.ts';
import { WheelDriver } from '../clock/wheel-driver.ts';
import type { ClusterListener } from '../cluster/cluster.ts';
import type { ClusterEnvironment } from '../cluster/cluster-set.ts';
import type { Config } from '../config/config.ts';
import { type Arrows, step } from '../errors/illegal-step.ts';
import type { ConnectionError } from '../http2/errors.ts';
import { Journal } from '../journal/journal.ts';
import type { Move } from '../listeners/grpc-listener.ts';
import type { GrpcListenerEnvironment } from '../listeners/grpc-listener-options.ts';
import { Inbound } from '../listeners/inbound.ts';
import { InboundLink } from '../listeners/inbound-link.ts';
import { DRAINING, ListenError } from '../listeners/listen.ts';
import { LlmListener } from '../listeners/llm.ts';
import { McpListener } from '../listeners/mcp.ts';
import { Outbound } from '../listeners/outbound.ts';
import type { LlmEvents } from '../llm/shared/request-observer.ts';
import type { McpEvents } from '../mcp/shared/mcp-observer.ts';
import { NO_APP } from '../net/address.ts';
import type { PolicyEvents } from '../proxy/cluster-policies.ts';
import { InboundCalls } from '../proxy/inbound-calls.ts';
import { JournalStats } from '../telemetry/journal-stats.ts';
import type { Credentials, CredentialsListener } from '../tls/credentials.ts';
import { type BusObserver, BusSide } from './bus-side.ts';

/** Receives what happens to the store of the journal. */
interface JournalObserver {
  /** @param because '' while there is a connection */
  onJournalConnected(connected: boolean, because: string): void;
}

/** Receives the events of a running sidecar, for logs and `/events`. */
export interface SidecarObserver
  extends ClusterListener,
    PolicyEvents,
    LlmEvents,
    Partial<McpEvents>,
    Partial<BusObserver>,
    Partial<JournalObserver>,
    Partial<CredentialsListener> {
  onConnectionError(listener: string, error: ConnectionError): void;
  onDrainState(state: DrainState): void;
}

/**
 *     starting ──listening──▶ running ──drain()──▶ notReady ──drain.delay──▶ goaway ──last connection closed──▶ stopped
 *                                                                              └──drain.timeout──▶ ended ──▶ stopped
 *     any ──close()──▶ stopped
 */
export type DrainState = 'starting' | 'running' | 'notReady' | 'goaway' | 'ended' | 'stopped';

export const DRAIN_ARROWS: Arrows<DrainState> = {
  starting: ['running', 'stopped'],
  running: ['notReady', 'stopped'],
  notReady: ['goaway', 'stopped'],
  goaway: ['ended', 'stopped'],
  ended: ['stopped'],
  stopped: [],
};

/** Which listeners a process has: those beside an agent, or the egress alone as a service. */
export type Serves = 'all' | 'llm';

/** How often a draining sidecar checks whether its last connection has closed. */
const DRAIN_POLL_MS = 20;
/** How long the end of a drain waits until other replicas may have what this one did not use. */
const GIVE_BACK_MS = 1_000;

/**
 * The data plane: both gRPC listeners, the LLM egress and the state that they share. `process/start.ts` has the HTTP
 * listeners, the signals and the configuration file.
 */
export class Sidecar {
  readonly inbound: Inbound;
  readonly outbound: Outbound;
  readonly llm: LlmListener;
  readonly mcp: McpListener;
  readonly busSide: BusSide;
  readonly journal: Journal;
  readonly journalStats = new JournalStats();
  /** What replicas of the service share, where there is a bus. */
  readonly shares = new StandingShares();
  readonly inboundCalls = new InboundCalls();
  readonly wheel = new TimerWheel();
  readonly clock: () => number;
  private readonly driver: WheelDriver;
  private readonly observer: SidecarObserver;
  private readonly environment: GrpcListenerEnvironment & Pick<ClusterEnvironment, 'bus'>;
  readonly serves: Serves;
  config: Config;
  state: DrainState = 'starting';
  private ending = false;
  private inboundDrain: Promise<number> | undefined = undefined;
  inboundAddress = '';
  outboundAddress = '';
  llmAddress = '';

  /** @param clock monotonic milliseconds from any origin */
  constructor(config: Config, observer: SidecarObserver, clock = heldNow, serves: Serves = 'all') {
    this.serves = serves;
    this.config = serves === 'all' ? config : withoutAgent(config);
    this.clock = clock;
    this.observer = observer;
    this.driver = new WheelDriver(this.wheel, this.clock);
    const { wheel } = this;
    this.busSide = new BusSide(config, observer);
    this.journal = new Journal(config, {
      variables: process.env,
      stats: this.journalStats,
      busSealer: this.busSide.bus.sealer,
      publisher: () => this.busSide.bus.publisher,
      onConnected: (...of) => observer.onJournalConnected?.(...of),
    });
    this.environment = {
      bus: this.busSide.bus,
      wheel,
      clock,
      random: Math.random,
      instance: `agent-${randomUUID()}`,
      onConnectionError: (listener: string, error: ConnectionError) =>
        observer.onConnectionError(listener, error),
      certificates: {
        onCertificate: (...of: Parameters<CredentialsListener['onCertificate']>) =>
          observer.onCertificate?.(...of),
        onCertificateInvalid: (...of: Parameters<CredentialsListener['onCertificateInvalid']>) =>
          observer.onCertificateInvalid?.(...of),
      },
    };
    this.inbound = new Inbound(config, this.environment, observer, this.inboundCalls);
    this.outbound = new Outbound(config, this.environment, observer, this.inboundCalls);
    const egress = {
      wheel,
      clock,
      random: Math.random,
      events: observer,
      ownerCalls: new InboundLink(this.inboundCalls),
      journal: this.journal,
    };
    this.llm = new LlmListener(config.llm, {
      ...egress,
      counters: () => (this.sharesOverBus ? this.shares : undefined),
      certificates: this.environment.certificates!,
    });
    this.mcp = new McpListener(config.mcp, {
      ...egress,
      events: {
        onMcpBreaker: (...of) => observer.onMcpBreaker?.(...of),
        onKeyFile: (...of) => observer.onKeyFile?.(...of),
      },
      certificates: this.environment.certificates!,
    });
    this.llm.stats.agent = config.name;
  }

  /** Opens the listeners; throws ListenError when an address can't be bound. */
  async start(): Promise<void> {
    this.applyShares(this.config);
    this.inboundCalls.money.limit(this.config.llm.limits.usdPerTask);
    if (this.serves === 'llm') {
      this.llmAddress = await this.llm.listen(this.config.llm.listen);
      this.setState('running');
      return;
    }
    this.busSide.apply(this.config, this.inbound, this.outbound);
    this.journal.apply(this.config);
    this.inboundAddress = await this.inbound.start(this.config.inbound.listen);
    this.outboundAddress = await this.outbound.start(this.config);
    this.llmAddress = await this.llm.listen(this.config.llm.listen);
    await this.mcp.listen();
    this.setState('running');
    this.busSide.consume(this.inbound, this.environment);
  }

  /** The certificates in use that come from files. */
  *credentials(): Generator<Credentials> {
    const { tlsAcceptor } = this.inbound.listener;
    if (tlsAcceptor !== undefined) yield tlsAcceptor.credentials;
    for (const { credentials } of [this.llm, this.mcp]) if (credentials !== undefined) yield credentials;
    yield* this.outbound.clusters.credentials();
  }

  /** Why only a new process would serve again; undefined while this one starts, serves or drains. */
  get notLiveBecause(): string | undefined {
    if (this.state !== 'running') return undefined;
    const { inbound, outbound, llm, mcp } = this;
    const listeners =
      this.serves === 'llm' ? { llm } : { inbound: inbound.listener, outbound: outbound.listener, llm, mcp };
    for (const [name, { isListening }] of Object.entries(listeners))
      if (!isListening) return `${name}.listen accepts no more connections`;
    const { deaf } = outbound.targets;
    return deaf === undefined ? undefined : `outbound.targets accept no more connections at ${deaf}`;
  }

  /** Why the sidecar is not ready for calls; undefined when it is. */
  get notReadyBecause(): string | undefined {
    if (this.state !== 'running') return this.state === 'starting' ? 'starting' : 'draining';
    const { notLiveBecause } = this;
    if (notLiveBecause !== undefined || this.serves === 'llm') return notLiveBecause;
    const { appHealth, app } = this.inbound;
    if (appHealth.healthy || appHealth.state === 'none') return undefined;
    const failure = app.endpoints[0]?.pool.lastFailure ?? '';
    const because = appHealth.state === 'unreachable' && failure !== '' ? `: ${failure}` : '';
    return `the app at ${this.config.inbound.app} is ${appHealth.state}${because}`;
  }

  /**
   * Applies a new configuration without dropping a call. Listeners move to new addresses; calls on the old ones finish.
   * Throws ListenError when a new address can't be bound. On any error the old configuration stays in use.
   */
  async apply(next: Config): Promise<void> {
    const config = this.serves === 'all' ? next : withoutAgent(next);
    const before = this.config;
    const moves = await this.openMoves(config);
    try {
      this.use(config);
    } catch (error) {
      for (const move of moves) move.cancel();
      this.use(before);
      throw error;
    }
    this.config = config;
    for (const move of moves) move.commit();
    this.inboundAddress = this.inbound.listener.address;
    this.outboundAddress = this.outbound.listener.address;
    this.llmAddress = this.llm.address;
  }

  /** Opens all new listen addresses beside the present ones, or none. */
  private async openMoves(config: Config): Promise<readonly Move[]> {
    const { inbound, outbound, llm, mcp, config: before } = this;
    const moves: Move[] = [];
    // A draining sidecar closes the addresses that it has, and the drain may begin while one is opened.
    const mustRun = (setting: string, address: string): void => {
      if (this.state !== 'running') throw new ListenError(setting, address, DRAINING);
    };
    const open = async (
      name: 'inbound' | 'outbound' | 'llm',
      listener: { open(address: string): Promise<Move> },
    ): Promise<void> => {
      const { listen } = config[name];
      if (listen === before[name].listen) return;
      mustRun(`${name}.listen`, listen);
      moves.push(await listener.open(listen));
      mustRun(`${name}.listen`, listen);
    };
    try {
      await open('llm', llm);
      if (this.serves === 'llm') return moves;
      await open('inbound', inbound.listener);
      await open('outbound', outbound.listener);
      const move = this.state === 'running' ? await mcp.moveFor(config.mcp) : undefined;
      if (move !== undefined) {
        moves.push(move);
        mustRun('mcp.listen', config.mcp.listen);
      }
      const target = outbound.targets.firstNew(config.outbound.targets);
      if (target !== undefined) mustRun('outbound.targets', target);
      await outbound.openTargets(config, moves);
      if (target !== undefined) mustRun('outbound.targets', target);
    } catch (error) {
      for (const move of moves) move.cancel();
      throw error;
    }
    return moves;
  }

  private use(config: Config): void {
    const { inbound, outbound, llm, mcp } = this;
    this.applyShares(config);
    this.inboundCalls.money.limit(config.llm.limits.usdPerTask);
    llm.stats.agent = config.name;
    llm.apply(config.llm);
    if (this.serves === 'llm') return;
    mcp.apply(config.mcp);
    this.busSide.apply(config, inbound, outbound);
    this.journal.apply(config);
    inbound.apply(config);
    outbound.apply(config);
    if (this.state === 'running') this.busSide.consume(inbound, this.environment);
  }

  private get sharesOverBus(): boolean {
    const { bus, llm } = this.config;
    return bus.url !== undefined && llm.callers.length > 0;
  }

  private applyShares({ bus, llm, name }: Config): void {
    if (bus.url !== undefined && llm.callers.length > 0) this.shares.apply(bus, name);
    else this.shares.close();
  }

  private setState(state: DrainState): void {
    this.state = step(DRAIN_ARROWS, this.state, state);
    this.observer.onDrainState(state);
  }

  /**
   * Drains: the sidecar reports not ready, sends GOAWAY, lets calls and streams finish up to the limit, and ends the rest
   * with `draining`. A connection closes after its last call, when the caller has read the answer; the drain is over when
   * the last connection has closed. The outbound side and the LLM egress serve until the inbound calls, which need them,
   * have ended.
   */
  async drain(): Promise<void> {
    if (this.ending || this.state === 'starting' || this.stopped) return;
    this.ending = true;
    const { inbound, outbound, llm, mcp } = this;
    const endAtMs = await this.drainInbound();
    if (this.stopped) return;
    outbound.stopAccepting();
    outbound.drain();
    for (const egress of [llm, mcp]) {
      egress.stopAccepting();
      egress.drain();
    }
    const requests = (): number => llm.activeRequests + mcp.activeRequests;
    await this.until(() => outbound.connectionCount + requests() === 0, endAtMs);
    if (this.stopped) return;
    if (inbound.stats.activeCalls + outbound.stats.activeCalls + requests() > 0) this.setState('ended');
    this.endCalls();
    await Promise.all([this.busSide.stored(), Promise.race([llm.giveBack(), sleep(GIVE_BACK_MS)])]);
    // The answers just written need a turn of the event loop to reach the socket.
    await sleep(DRAIN_POLL_MS);
    this.close();
  }

  /**
   * The first half of a drain, for the time when a pod begins to end: it sends callers away, and serves the app's own
   * calls until `drain`. A second call returns the same promise. Resolves when the inbound side has no connection left or
   * its time is over, with the time at which the drain ends.
   */
  drainInbound(): Promise<number> {
    this.inboundDrain ??= this.drainCallers();
    return this.inboundDrain;
  }

  private async drainCallers(): Promise<number> {
    const { delayMs, timeoutMs } = this.config.drain;
    const { inbound } = this;
    this.setState('notReady');
    this.busSide.stopTaking();
    inbound.health.drain();
    await this.until(() => false, this.clock() + delayMs);
    const endAtMs = this.clock() + timeoutMs;
    if (this.stopped) return endAtMs;
    this.setState('goaway');
    inbound.listener.stopAccepting();
    inbound.listener.drain();
    inbound.endWatches();
    // The bus may need a moment to store the last results.
    await this.until(() => inbound.listener.connectionCount + this.busSide.running === 0, endAtMs);
    // When `drain` waits for this, it ends the remaining calls itself, in the order of the three sides.
    if (!this.stopped && !this.ending) inbound.listener.endCalls();
    return endAtMs;
  }

  private get stopped(): boolean {
    return this.state === 'stopped';
  }

  private async until(done: () => boolean, endAtMs: number): Promise<void> {
    while (!this.stopped && !done() && this.clock() < endAtMs) await sleep(DRAIN_POLL_MS);
  }

  private endCalls(): void {
    this.inbound.listener.endCalls();
    this.outbound.endCalls();
    this.llm.endRequests();
    this.mcp.endRequests();
  }

  /** Stops at once, also during a drain. */
  close(): void {
    if (this.stopped) return;
    this.inbound.listener.stopAccepting();
    this.outbound.stopAccepting();
    this.endCalls();
    this.inbound.close();
    this.outbound.close();
    this.llm.close();
    this.mcp.close();
    this.busSide.close();
    void this.journal.close();
    this.shares.close();
    this.driver.stop();
    this.setState('stopped');
  }
}

/** No agent is beside the service, whatever the file says of one. */
function withoutAgent(config: Config): Config {
  return { ...config, inbound: { ...config.inbound, app: NO_APP } };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
