/** Starts the process, applies new configurations, handles signals, and ends it after the drain. */
import { Live } from '../admin/live.ts';
import { liveCalls } from '../admin/live-calls.ts';
import { LazyPages } from '../admin/metrics/lazy-pages.ts';
import { metricsSource } from '../admin/metrics/metrics-source.ts';
import { clustersSnapshot, statsSnapshot } from '../admin/snapshot.ts';
import type { Config } from '../config/config.ts';
import type { LoadedConfig } from '../config/load.ts';
import { formatOnOneLine, formatProblem, type Problem } from '../config/problems.ts';
import type { ConfigSource } from '../config/source.ts';
import { type Serves, Sidecar } from '../data-plane/sidecar.ts';
import { reportIllegalSteps } from '../errors/illegal-step.ts';
import { startAdmin } from '../listeners/admin.ts';
import { startHealth } from '../listeners/health.ts';
import type { HttpServer } from '../listeners/http-server.ts';
import { AcceptError, ListenError } from '../listeners/listen.ts';
import { startMetrics } from '../listeners/metrics.ts';
import { type LineWriter, stdoutWriter } from '../node/line-writer.ts';
import { EXIT_SOFTWARE } from '../node/uncaught-errors.ts';
import { AccessLog } from '../observers/access-log.ts';
import { CallObservers } from '../observers/call-observers.ts';
import { FailedCalls } from '../observers/failed-calls.ts';
import { LlmAccessLog, observerOf } from '../observers/llm-observer.ts';
import { LoggingObserver } from '../observers/logging-observer.ts';
import { McpAccessLog, mcpObserverOf } from '../observers/mcp-observer.ts';
import { LlmTracing } from '../observers/tracing/llm-tracing.ts';
import { McpTracing } from '../observers/tracing/mcp-tracing.ts';
import type { Tracing } from '../observers/tracing/start.ts';
import { startTracingIfEnabled } from '../observers/tracing/start-if-enabled.ts';
import { EventLog } from '../telemetry/events.ts';
import { createLogger, type Logger } from '../telemetry/log.ts';
import { outriggerVersion } from '../telemetry/version.ts';
import { ENDING_SIGNALS, takeDeferredSignals } from './deferred-signals.ts';
import { endProcessSoon, FLUSH_SPANS_MS } from './end-process.ts';
import { trimMemoryWhenIdle } from './trim-memory.ts';
import { endOnUnexpectedErrors } from './unexpected.ts';

const EXIT_OK = 0;
/** sysexits.h EX_UNAVAILABLE: the sidecar could not listen at an address. */
const EXIT_UNAVAILABLE = 69;
const STARTED_WITH_LAST_GOOD =
  'the sidecar refuses the configuration and uses the last good one (--last-good)';

/**
 * Runs the sidecar until it has drained; resolves with the exit code.
 *
 * @param serves which listeners there are beside admin, metrics and health
 */
export async function runSidecar(source: ConfigSource, serves: Serves = 'all'): Promise<number> {
  const lines = stdoutWriter();
  const {
    log: { level },
    name,
  } = source.current;
  const log = createLogger({ level, base: { name }, stream: lines });
  endOnUnexpectedErrors(log);
  const events = new EventLog(Date.now);
  let running: RunningSidecar | undefined;
  try {
    const sidecar = new Sidecar(source.current, new LoggingObserver(log, events), undefined, serves);
    running = new RunningSidecar(source, sidecar, lines, log, events);
    await running.start();
  } catch (error) {
    const expected = error instanceof ListenError;
    if (expected) log.fatal(error.message);
    endProcessSoon(expected ? EXIT_UNAVAILABLE : EXIT_SOFTWARE);
    await running?.stop();
    if (expected) return EXIT_UNAVAILABLE;
    throw error;
  }
  return running.untilDrained();
}

/** Puts the process together: the data plane with its HTTP listeners, its configuration file and its signals. */
class RunningSidecar {
  private readonly source: ConfigSource;
  private readonly sidecar: Sidecar;
  private readonly lines: LineWriter;
  private readonly log: Logger;
  private readonly events: EventLog;
  private readonly accessLog: AccessLog;
  private readonly failedCalls = new FailedCalls(Date.now);
  private readonly live: Live;
  private readonly servers: HttpServer[] = [];
  private tracing: Tracing | undefined = undefined;
  private stopWatching: () => void = () => {};
  private drained: Promise<void> | undefined = undefined;
  /** When the present file was refused; undefined while its configuration is in use. */
  private refusedSince: Date | undefined = undefined;
  private applying: Promise<readonly Problem[]> = Promise.resolve([]);
  /** Resolves when the process has nothing left to do: after the drain, or after a second signal. */
  private readonly ended = Promise.withResolvers<void>();

  constructor(source: ConfigSource, sidecar: Sidecar, lines: LineWriter, log: Logger, events: EventLog) {
    this.source = source;
    this.sidecar = sidecar;
    this.lines = lines;
    this.log = log;
    this.events = events;
    this.accessLog = new AccessLog(log);
    this.live = new Live(sidecar, events, this.failedCalls, source);
  }

  async start(): Promise<void> {
    const { sidecar, log, source } = this;
    const { config } = sidecar;
    const { inbound, outbound } = sidecar;
    this.tracing = await startTracingIfEnabled(config, log);
    this.observeCalls(config);
    sidecar.llm.onBody = (direction, body) => log.info({ listener: 'llm', direction, body }, 'LLM body');
    inbound.context.tracer = this.tracing?.tracer;
    outbound.context.tracer = this.tracing?.tracer;
    await sidecar.start();
    this.live.start();
    const metrics = new LazyPages(
      metricsSource(sidecar, {
        version: outriggerVersion(),
        tracing: this.tracing,
        findings: () => this.live.findings,
        configRefused: () => this.refusedSince !== undefined,
        logLines: this.lines,
      }),
    );
    const failed =
      (what: string) =>
      (error: unknown): void => {
        if (error instanceof AcceptError) log.warn(error.message);
        else log.error({ err: error }, `${what} failed; this is a defect`);
      };
    reportIllegalSteps(failed('a step of a state machine'));
    const onError = failed('an HTTP page');
    sidecar.llm.onError = failed('a request of the egress');
    sidecar.mcp.onError = failed('a request to a tool server');
    const probes = {
      notLiveBecause: () => sidecar.notLiveBecause,
      notReadyBecause: () => sidecar.notReadyBecause,
      appBecause: (service: string) => inbound.appBecause(service),
      busNote: () => sidecar.busSide.bus.view?.problem || undefined,
      configNote: () =>
        this.refusedSince === undefined
          ? undefined
          : `the file was refused at ${this.refusedSince.toISOString()}, and the last good configuration is in use; the log says why`,
    };
    const publicStatus = () => this.live.status('everybody');
    const admin = {
      clusters: () => clustersSnapshot(sidecar),
      config: () => source.effective,
      stats: () => statsSnapshot(sidecar),
      status: () => this.live.status('operator'),
      calls: (query: URLSearchParams) => liveCalls(sidecar, this.failedCalls, query),
      notReadyBecause: probes.notReadyBecause,
      metrics,
      events: this.events,
      live: this.live,
      drain: () => void this.drain(),
      drainInbound: () => void this.sidecar.drainInbound(),
      reload: () => this.reload(),
    };
    const health = await this.keep(startHealth(config.health.listen, probes, onError));
    const metricsServer = await this.keep(
      startMetrics(config.metrics.listen, metrics, onError, publicStatus),
    );
    const adminServer = await this.keep(startAdmin(config.admin.listen, admin, onError));
    log.info(
      {
        inbound: sidecar.inboundAddress,
        outbound: sidecar.outboundAddress,
        targets: config.outbound.targets.map(({ listen, address }) => `${listen} → ${address}`),
        llm: sidecar.llmAddress,
        mcp: sidecar.mcp.address || undefined,
        app: config.inbound.app,
        admin: adminServer.address,
        metrics: metricsServer.address,
        health: health.address,
        config: source.path ?? '(defaults)',
      },
      'listening',
    );
    this.logNotices();
    if (source.refused.length > 0) this.refuse(source.refused, STARTED_WITH_LAST_GOOD);
    else this.keepConfig();
    this.stopWatching = source.watch(
      (loaded) => void this.applyNext(loaded),
      (problems) => this.refuse(problems),
    );
    this.handleSignals();
    trimMemoryWhenIdle(
      () =>
        inbound.stats.activeCalls +
        outbound.stats.activeCalls +
        sidecar.llm.activeRequests +
        sidecar.mcp.activeRequests,
    );
  }

  /** Keeps each server as soon as it listens, so that `stop` closes it even when the next one fails to listen. */
  private async keep(starting: Promise<HttpServer>): Promise<HttpServer> {
    const server = await starting;
    this.servers.push(server);
    return server;
  }

  /**
   * SIGTERM and SIGINT start a drain, and a second one ends the process at once; SIGHUP reloads. The first one never ends
   * the process, even during a drain: the kubelet sends SIGTERM after a `preStop` hook that starts the drain over HTTP.
   */
  private handleSignals(): void {
    let signals = 0;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (++signals === 1) {
        this.log.info({ signal }, 'draining; a second signal ends the process at once');
        void this.drain();
      } else {
        this.log.warn({ signal }, 'ending the process at once');
        this.sidecar.close();
        this.ended.resolve();
      }
    };
    for (const signal of ENDING_SIGNALS) process.on(signal, onSignal);
    for (const signal of takeDeferredSignals()) onSignal(signal);
    process.on('SIGHUP', () => void this.reload());
  }

  private drain(): Promise<void> {
    this.drained ??= this.sidecar.drain().then(() => this.ended.resolve());
    return this.drained;
  }

  private async reload(): Promise<readonly Problem[]> {
    const result = await this.source.loadWhenStill();
    if ('problems' in result) {
      this.refuse(result.problems);
      return result.problems;
    }
    return this.applyNext(result);
  }

  /** Applies configurations one after the other: two at a time would both open the changed address. */
  private applyNext(loaded: LoadedConfig): Promise<readonly Problem[]> {
    const applied = this.applying.then(() => this.apply(loaded));
    this.applying = applied;
    return applied;
  }

  /** Never rejects. When there are problems, the old configuration stays in use. */
  private async apply(loaded: LoadedConfig): Promise<readonly Problem[]> {
    const { sidecar, log, events, source } = this;
    const { config } = loaded;
    const before = sidecar.config;
    try {
      await sidecar.apply(config);
    } catch (error) {
      if (!(error instanceof ListenError)) log.error({ err: error }, 'a reload failed; this is a defect');
      const problem = asProblem(error);
      this.refuse([problem]);
      return [problem];
    }
    source.adopt(loaded);
    this.refusedSince = undefined;
    this.keepConfig();
    this.logNotices();
    log.level = config.log.level;
    this.observeCalls(config);
    for (const section of ['admin', 'metrics', 'health'] as const) {
      if (config[section].listen !== before[section].listen) {
        log.warn(`${section}.listen changed; restart the sidecar for it to take effect`);
      }
    }
    log.info({ config: source.path }, 'the configuration was reloaded');
    events.record('reload', 'the configuration was reloaded');
    return [];
  }

  /** Stores the configuration for a later start with a broken file (`--last-good`). */
  private keepConfig(): void {
    const problem = this.source.keep();
    if (problem !== undefined) this.log.warn(`the sidecar can not store the configuration: ${problem}`);
  }

  private logNotices(): void {
    for (const { level, message } of this.source.notices) this.log[level](message);
    for (const warning of this.source.warnings) this.log.warn(formatOnOneLine(warning));
  }

  private observeCalls(config: Config): void {
    const { failedCalls, accessLog } = this;
    accessLog.headers = config.log.accessHeaders;
    const observer = config.log.access ? new CallObservers(failedCalls, accessLog) : failedCalls;
    this.sidecar.inbound.context.observer = observer;
    this.sidecar.outbound.context.observer = observer;
    const { tracing, sidecar } = this;
    sidecar.mcp.observer = mcpObserverOf([
      config.log.access ? new McpAccessLog(this.log) : undefined,
      tracing && new McpTracing(tracing.tracer, sidecar.inboundCalls, sidecar.clock),
    ]);
    this.sidecar.llm.observer = observerOf([
      config.log.access ? new LlmAccessLog(this.log) : undefined,
      this.tracing && new LlmTracing(this.tracing.tracer, this.sidecar.inboundCalls, this.sidecar.clock),
    ]);
  }

  private refuse(
    problems: readonly Problem[],
    message = 'the sidecar refuses the new configuration and keeps the old one',
  ): void {
    const texts = problems.map(formatProblem);
    this.refusedSince ??= new Date();
    this.log.error({ problems: texts }, message);
    this.events.record('reload', `refused: ${texts.join('; ')}`, { problems: problems.length });
  }

  async untilDrained(): Promise<number> {
    await this.ended.promise;
    // A drained sidecar does not wait for a collector or a Kubernetes API that does not answer.
    endProcessSoon(EXIT_OK);
    await this.stop();
    return EXIT_OK;
  }

  async stop(): Promise<void> {
    this.stopWatching();
    this.live.stop();
    this.sidecar.close();
    await Promise.all([...this.servers.map((server) => server.close()), this.tracing?.stop(FLUSH_SPANS_MS)]);
    // Signal handlers would keep the process alive. Open connections may linger until the process ends.
    process.removeAllListeners('SIGTERM').removeAllListeners('SIGINT').removeAllListeners('SIGHUP');
  }
}

function asProblem(error: unknown): Problem {
  const message = error instanceof Error ? error.message : String(error);
  return {
    path: '',
    source: 'reload',
    line: undefined,
    column: undefined,
    message,
    remedy: 'correct the address',
  };
}
