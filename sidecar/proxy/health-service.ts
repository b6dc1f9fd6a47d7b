/** Answers health requests on the inbound side, for the agent itself or by asking the app. */
import type { AppHealth } from '../cluster/health/app-health.ts';
import { SIGN_OF_LIFE_SERVICE } from '../cluster/health/health-request.ts';
import { READABLE_ENCODINGS } from '../grpc/message-encoding.ts';
import { Status } from '../grpc/status.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import { FairPlaces, type Holder } from '../policy/fair-places.ts';
import {
  readHealthList,
  readHealthService,
  readServingStatus,
  ServingStatus,
  writeAgentHealth,
  writeHealthList,
  writeServingStatus,
} from '../task/health-message.ts';
import { AGENT_HEALTH_CHECK_PATH } from '../task/task-message.ts';
import type { ListenerStats } from '../telemetry/call-stats.ts';
import { type AppAnswer, AppQuestion } from './app-question.ts';
import { AppWatch, type AppWatchEnvironment } from './app-watch.ts';
import type { LocalServices } from './context.ts';
import { HealthCall } from './health-call.ts';
import { requestInfo } from './request-info.ts';

const CHECK_PATH = '/grpc.health.v1.Health/Check';
const WATCH_PATH = '/grpc.health.v1.Health/Watch';
const LIST_PATH = '/grpc.health.v1.Health/List';
const AGENT_SERVICE = 'agent.AgentService';
/**
 * The minimum, for listeners that allow few connections: a sidecar carries the watches of many channels on one
 * connection.
 */
const MIN_WATCHERS = 256;

/** The names that the sidecar answers for. */
export interface HealthIdentity {
  readonly name: string;
  readonly version: string;
}

/**
 * Serves `grpc.health.v1.Health` and `agent.AgentService/HealthCheck` on the inbound side. For the server as a whole,
 * for `agent.AgentService` and for the agent's own name, the sidecar answers from what it observes of the app, so that
 * an agent need implement neither. Any other service is the app's own, and the sidecar asks the app.
 */
export class HealthServices implements LocalServices {
  private readonly app: AppHealth;
  private readonly stats: ListenerStats;
  private readonly environment: AppWatchEnvironment;
  /** Open watches. A watch of one of the app's own services has an `AppWatch`. */
  private readonly watchers = new Map<HealthCall, AppWatch | undefined>();
  /** Places for watches, each of which is a long-lived stream. */
  private readonly watchPlaces = new FairPlaces(MIN_WATCHERS);
  /** Places for questions that the app has not answered yet. */
  private readonly questionPlaces = new FairPlaces(MIN_WATCHERS);
  identity: HealthIdentity;
  private draining = false;

  constructor(
    app: AppHealth,
    stats: ListenerStats,
    identity: HealthIdentity,
    environment: AppWatchEnvironment,
  ) {
    this.app = app;
    this.stats = stats;
    this.identity = identity;
    this.environment = environment;
    app.onChange(() => this.tellWatchers());
    app.onConnected(() => {
      for (const watch of this.watchers.values()) watch?.onConnected();
    });
  }

  get healthy(): boolean {
    return this.app.healthy && !this.draining;
  }

  /** A channel with client-side health checking watches on its connection, and takes no calls without a watch. */
  set maxConnections(count: number) {
    this.watchPlaces.limit = Math.max(MIN_WATCHERS, count);
    this.questionPlaces.limit = this.watchPlaces.limit;
  }

  drain(): void {
    this.draining = true;
    this.tellWatchers();
  }

  /** The sidecar stops: ends all watches, so that their callers watch another replica. */
  endWatches(): void {
    for (const watcher of [...this.watchers.keys()])
      watcher.end(Status.UNAVAILABLE, 'the sidecar is shutting down');
  }

  private tellWatchers(): void {
    for (const [watcher, watch] of this.watchers) this.tell(watcher, watch);
  }

  private tell(watcher: HealthCall, watch: AppWatch | undefined): void {
    if (watch === undefined) {
      watcher.sendStatus(this.ownStatus);
      return;
    }
    if (this.appIsAbsent) watch.onAbsent();
    if (watch.status !== undefined)
      watcher.sendStatus(this.appIsAbsent ? watch.absentStatus : this.asFarAs(watch.status));
  }

  serve(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): boolean {
    const { path } = head;
    // Four cheap comparisons: most paths differ in length already.
    if (path !== CHECK_PATH && path !== WATCH_PATH && path !== LIST_PATH && path !== AGENT_HEALTH_CHECK_PATH)
      return false;
    // Other protocols beside gRPC use the same paths; those requests go to the app.
    if (!requestInfo(list, head).grpc) return false;
    const call = new HealthCall(stream, list, head, (complete) => this.answer(complete, path));
    stream.handler = call;
    if (endStream) call.complete();
    return true;
  }

  private answer(call: HealthCall, path: string): void {
    if (path === AGENT_HEALTH_CHECK_PATH) {
      call.sendMessage(writeAgentHealth(this.agentHealth()));
      call.end(Status.OK);
      return;
    }
    const message = call.readMessage();
    const { encoding } = call;
    if (message === 'unsupported' && encoding !== '' && encoding !== 'identity') {
      const known = READABLE_ENCODINGS.join(', ');
      call.end(
        Status.UNIMPLEMENTED,
        `${encoding} can't be read here; compress it by ${known}, or not at all`,
      );
      return;
    }
    if (typeof message === 'string') {
      call.end(Status.INVALID_ARGUMENT, 'send one request of grpc.health.v1');
      return;
    }
    if (path === LIST_PATH) {
      this.list(call);
      return;
    }
    call.service = readHealthService(message, 0, message.length);
    const ours = this.answersFor(call.service);
    if (path === WATCH_PATH) this.watch(call, ours);
    else if (call.service === SIGN_OF_LIFE_SERVICE) this.signOfLife(call);
    else if (!ours) this.check(call);
    else {
      call.sendMessage(writeServingStatus(this.ownStatus));
      call.end(Status.OK);
    }
  }

  private watch(call: HealthCall, ours: boolean): void {
    const { watchPlaces } = this;
    const { watches } = call.caller;
    if (!watchPlaces.take(watches)) {
      const message = `${takenOf(watchPlaces, watches)} watchers already; use Check, or raise inbound.limits.max_connections`;
      call.end(Status.RESOURCE_EXHAUSTED, message);
      return;
    }
    const watch: AppWatch | undefined = ours
      ? undefined
      : new AppWatch(this.environment, call, () => this.tell(call, watch));
    this.watchers.set(call, watch);
    call.onGone = () => {
      this.watchers.delete(call);
      watchPlaces.release(watches);
      watch?.stop();
    };
    if (watch === undefined) this.tell(call, undefined);
    else if (!this.refuseOversize(call)) watch.ask();
  }

  /** Asks the app about one of its own services. */
  private check(call: HealthCall): void {
    this.ask(call, {
      onMessage: (message) =>
        call.sendMessage(writeServingStatus(this.asFarAs(readServingStatus(message, 0, message.length)))),
      onEnd: (status, list, head) => {
        // A server that has the health service knows its own services; one without it knows none.
        if (status === Status.UNIMPLEMENTED) this.unknown(call);
        else call.endAs(list, head);
      },
      onNoAnswer: (why, message) => {
        if (why === 'not_grpc') this.unknown(call);
        else this.absent(call, message);
      },
    });
  }

  /** Answers another sidecar's question whether the app is alive at this moment. */
  private signOfLife(call: HealthCall): void {
    const { cluster } = this.environment;
    const [app] = cluster.endpoints;
    const connection = app?.pool.connections[0];
    if (connection === undefined) {
      this.absent(call, 'there is no connection to it');
      return;
    }
    cluster.silence.requestSign(app!, connection, (alive) => {
      call.sendMessage(writeServingStatus(alive ? ServingStatus.SERVING : ServingStatus.NOT_SERVING));
      call.end(Status.OK);
    });
  }

  private list(call: HealthCall): void {
    this.ask(call, {
      onMessage: (message) => {
        const statuses = readHealthList(message, 0, message.length) ?? new Map();
        for (const [service, status] of statuses) statuses.set(service, this.asFarAs(status));
        for (const service of ['', AGENT_SERVICE, this.identity.name]) statuses.set(service, this.ownStatus);
        call.sendMessage(writeHealthList(statuses));
      },
      onEnd: (_status, list, head) => call.endAs(list, head),
      onNoAnswer: (_why, message) => this.absent(call, message),
    });
  }

  private ask(call: HealthCall, answer: AppAnswer): void {
    if (this.refuseOversize(call)) return;
    const { questionPlaces } = this;
    const { questions } = call.caller;
    if (!questionPlaces.take(questions)) {
      const message = `${takenOf(questionPlaces, questions)} questions wait for the app already`;
      call.end(Status.RESOURCE_EXHAUSTED, message);
      return;
    }
    const question = new AppQuestion(this.environment.cluster, call, answer);
    call.onGone = () => {
      questionPlaces.release(questions);
      question.cancel();
    };
    question.start();
  }

  /** Refuses a request with an oversize header list: only a part of it is here, and the app would receive that part. */
  private refuseOversize(call: HealthCall): boolean {
    if (!call.list.oversize) return false;
    call.refuse(`the request's header fields have ${call.list.listBytes} bytes`);
    return true;
  }

  private unknown(call: HealthCall): void {
    call.end(Status.NOT_FOUND, `no such service; ask for "" or "${AGENT_SERVICE}"`);
  }

  private absent(call: HealthCall, message: string): void {
    call.end(Status.UNAVAILABLE, `the app of ${this.identity.name} can't be asked: ${message}`);
  }

  /** Whether the sidecar answers for this service itself; any other is the app's own. */
  answersFor(service: string): boolean {
    return service === '' || service === AGENT_SERVICE || service === this.identity.name;
  }

  private get appIsAbsent(): boolean {
    return this.app.state === 'unreachable' || this.app.state === 'none';
  }

  private get ownStatus(): ServingStatus {
    return this.healthy ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
  }

  /** Limits the app's own status while the sidecar drains: SERVING becomes NOT_SERVING. */
  private asFarAs(status: ServingStatus): ServingStatus {
    return this.draining && status === ServingStatus.SERVING ? ServingStatus.NOT_SERVING : status;
  }

  private agentHealth() {
    const { totalCalls, totalErrors } = this.stats;
    return {
      healthy: this.healthy,
      agentName: this.identity.name,
      version: this.identity.version,
      checks: {
        app: this.app.state,
        draining: String(this.draining),
        total_requests: String(totalCalls),
        total_errors: String(totalErrors),
        error_rate: (totalCalls === 0 ? 0 : totalErrors / totalCalls).toFixed(4),
      },
    };
  }
}

/** For the message to a caller that gets no place. */
function takenOf(places: FairPlaces, { held }: Holder): string {
  return places.used >= places.limit ? `${places.limit}` : `${held} of ${places.limit} (this caller's share)`;
}
