import { randomUUID } from 'node:crypto';
import { heldNow } from '../clock/held-time.ts';
import { TimerWheel } from '../clock/timer-wheel.ts';
import { WheelDriver } from '../clock/wheel-driver.ts';
import type { ClusterListener } from '../cluster/cluster.ts';
import type { Config } from '../config/config.ts';
import type { ConnectionError } from '../http2/errors.ts';
import type { Move } from '../listeners/grpc-listener.ts';
import { Inbound } from '../listeners/inbound.ts';
import { InboundLink } from '../listeners/inbound-link.ts';
import { DRAINING, ListenError } from '../listeners/listen.ts';
import { LlmListener } from '../listeners/llm.ts';
import { Outbound } from '../listeners/outbound.ts';
import type { LlmEvents } from '../llm/shared/request-observer.ts';
import type { PolicyEvents } from '../proxy/cluster-policies.ts';
import { InboundCalls } from '../proxy/inbound-calls.ts';
import type { Credentials, CredentialsListener } from '../tls/credentials.ts';

/** What the sidecar tells of itself while it runs; for logs and `/events`. */
export interface SidecarObserver
  extends ClusterListener,
    PolicyEvents,
    LlmEvents,
    Partial<CredentialsListener> {
  onConnectionError(listener: string, error: ConnectionError): void;
  onDrainState(state: DrainState): void;
}

/**
 *     starting ──listening──▶ running ──drain()──▶ notReady ──drain.delay──▶ goaway ──last connection gone──▶ stopped
 *                                                                              └──drain.timeout──▶ ended ──▶ stopped
 */
export type DrainState = 'starting' | 'running' | 'notReady' | 'goaway' | 'ended' | 'stopped';

/** How often a draining sidecar looks whether its last connection has gone. */
const DRAIN_POLL_MS = 20;

/** The data plane: both gRPC listeners, the LLM egress and what they share. HTTP listeners, signals and files are `run.ts`'s. */
export class Sidecar {
  readonly inbound: Inbound;
  readonly outbound: Outbound;
  readonly llm: LlmListener;
  readonly inboundCalls = new InboundCalls();
  readonly wheel = new TimerWheel();
  readonly clock: () => number;
  private readonly driver: WheelDriver;
  private readonly observer: SidecarObserver;
  config: Config;
  state: DrainState = 'starting';
  private ending = false;
  private inboundDrain: Promise<number> | undefined = undefined;
  inboundAddress = '';
  outboundAddress = '';
  llmAddress = '';

  /** @param clock milliseconds from any beginning, which never go back */
  constructor(config: Config, observer: SidecarObserver, clock = heldNow) {
    this.config = config;
    this.clock = clock;
    this.observer = observer;
    this.driver = new WheelDriver(this.wheel, this.clock);
    const { wheel } = this;
    const environment = {
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
    const { inboundCalls } = this;
    this.inbound = new Inbound(config, environment, observer, inboundCalls);
    this.outbound = new Outbound(config, environment, observer, inboundCalls);
    this.llm = new LlmListener(config.llm, {
      wheel,
      clock,
      random: Math.random,
      events: observer,
      ownerCalls: new InboundLink(inboundCalls),
    });
    this.llm.stats.agent = config.name;
  }

  /** Listens. Throws when an address can't be had. */
  async start(): Promise<void> {
    this.inboundAddress = await this.inbound.start(this.config.inbound.listen);
    this.outboundAddress = await this.outbound.start(this.config.outbound.listen);
    this.llmAddress = await this.llm.listen(this.config.llm.listen);
    this.setState('running');
  }

  /** The certificates that come from files, in use now. */
  *credentials(): Generator<Credentials> {
    const { door } = this.inbound.listener;
    if (door !== undefined) yield door.credentials;
    yield* this.outbound.clusters.credentials();
  }

  /** Why only a new process would serve again; undefined while this one does, or is about to end. */
  get notLiveBecause(): string | undefined {
    if (this.state !== 'running') return undefined;
    const listeners = { inbound: this.inbound.listener, outbound: this.outbound.listener, llm: this.llm };
    for (const [name, { isListening }] of Object.entries(listeners))
      if (!isListening) return `${name}.listen accepts no more connections`;
    return undefined;
  }

  /** Why the sidecar is not ready for calls; undefined when it is. */
  get notReadyBecause(): string | undefined {
    if (this.state !== 'running') return this.state === 'starting' ? 'starting' : 'draining';
    const { notLiveBecause } = this;
    if (notLiveBecause !== undefined) return notLiveBecause;
    const { appHealth, app } = this.inbound;
    if (appHealth.healthy || appHealth.state === 'none') return undefined;
    const failure = app.endpoints[0]?.pool.lastFailure ?? '';
    const because = appHealth.state === 'unreachable' && failure !== '' ? `: ${failure}` : '';
    return `the app at ${this.config.inbound.app} is ${appHealth.state}${because}`;
  }

  /**
   * Takes a new configuration without dropping a call. Listen addresses are moved: calls on the old ones finish.
   * Throws ListenError when a new address can't be had; whatever it throws, the old configuration stays in use.
   */
  async apply(config: Config): Promise<void> {
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

  /** Listens where the new configuration says so beside where it listens now: on all of them, or on none. */
  private async openMoves(config: Config): Promise<readonly Move[]> {
    const { inbound, outbound, llm, config: before } = this;
    const moves: Move[] = [];
    const open = async (
      name: 'inbound' | 'outbound' | 'llm',
      listener: { open(address: string): Promise<Move> },
    ): Promise<void> => {
      const { listen } = config[name];
      if (listen === before[name].listen) return;
      // It is closing the address that it has.
      if (this.state !== 'running') throw new ListenError(`${name}.listen`, listen, DRAINING);
      moves.push(await listener.open(listen));
      // The drain began meanwhile.
      if (this.state !== 'running') throw new ListenError(`${name}.listen`, listen, DRAINING);
    };
    try {
      await open('inbound', inbound.listener);
      await open('outbound', outbound.listener);
      await open('llm', llm);
    } catch (error) {
      for (const move of moves) move.cancel();
      throw error;
    }
    return moves;
  }

  private use(config: Config): void {
    const { inbound, outbound, llm } = this;
    inbound.apply(config);
    outbound.apply(config);
    llm.stats.agent = config.name;
    llm.apply(config.llm);
  }

  private setState(state: DrainState): void {
    this.state = state;
    this.observer.onDrainState(state);
  }

  /**
   * Ends without losing a call: not ready, GOAWAY, then calls and streams up to the limit; what is left is ended
   * with `draining`. A connection closes behind its last call, when its answer has been read: the last connection
   * is the end. The outbound side and the LLM egress serve as long as inbound calls run, because they need them.
   */
  async drain(): Promise<void> {
    if (this.ending || this.state === 'starting' || this.stopped) return;
    this.ending = true;
    const { inbound, outbound, llm } = this;
    const endAtMs = await this.drainInbound();
    if (this.stopped) return;
    outbound.listener.stopAccepting();
    outbound.listener.drain();
    llm.stopAccepting();
    llm.drain();
    await this.until(() => outbound.listener.connectionCount + llm.activeRequests === 0, endAtMs);
    if (this.stopped) return;
    if (inbound.stats.activeCalls + outbound.stats.activeCalls + llm.activeRequests > 0)
      this.setState('ended');
    this.endCalls();
    // The answers just written need a turn of the event loop to leave.
    await sleep(DRAIN_POLL_MS);
    this.close();
  }

  /**
   * The first half of a drain, for the beginning of a pod's end: callers are sent away, and what the app itself calls
   * is served until `drain`. Asked for again it is the same one. Resolves with the end of its time, when nothing of
   * the inbound side is left.
   */
  drainInbound(): Promise<number> {
    this.inboundDrain ??= this.sendCallersAway();
    return this.inboundDrain;
  }

  private async sendCallersAway(): Promise<number> {
    const { delayMs, timeoutMs } = this.config.drain;
    const { inbound } = this;
    this.setState('notReady');
    inbound.health.drain();
    await this.until(() => false, this.clock() + delayMs);
    const endAtMs = this.clock() + timeoutMs;
    if (this.stopped) return endAtMs;
    this.setState('goaway');
    inbound.listener.stopAccepting();
    inbound.listener.drain();
    inbound.health.endWatches();
    await this.until(() => inbound.listener.connectionCount === 0, endAtMs);
    // When `drain` waits for this, it ends what is left, with the other sides and their order.
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
    this.outbound.listener.endCalls();
    this.llm.endRequests();
  }

  /** Ends at once, a drain that is under way too. */
  close(): void {
    if (this.stopped) return;
    this.inbound.listener.stopAccepting();
    this.outbound.listener.stopAccepting();
    this.endCalls();
    this.inbound.close();
    this.outbound.close();
    this.llm.close();
    this.driver.stop();
    this.setState('stopped');
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
