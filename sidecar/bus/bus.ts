/** The bus of one sidecar: its log, and the calls that become tasks. Puts the rooms together. */
import { statSync } from 'node:fs';
import type { OnReadOpts, Socket } from 'node:net';
import { busPlace, isVerified } from './bus-url.ts';
import { LogUnavailableError } from './log/log-errors.ts';
import { TaskCounts } from './log/task-counts.ts';
import type { QueueStatus, TaskLog } from './log/task-log.ts';
import { BusMemory } from './memory/bus-memory.ts';
import { carriedFields } from './message/carried-fields.ts';
import { openKeyFile } from './message/key-file.ts';
import type { Fields } from './message/payload.ts';
import { type Sealer, UNSEALED } from './message/sealer.ts';
import { openLog } from './open-log.ts';
import { Publisher } from './publisher/publisher.ts';
import type { Publishing, PublishingSettings } from './publisher/publishing.ts';
import { WaitingCallers } from './publisher/waiting-callers.ts';
import type { BusSettings } from './settings.ts';
import { StandingLog } from './standing-log.ts';

/** So often within a lease the log hears that calls of this sidecar still wait. */
const ATTENDED_AFTER = 1 / 3;
/** How often the queues are counted for metrics and pages. */
const STATUS_MS = 5_000;

/** The part of the configuration that the bus reads; `config/config.ts` has it in this shape. */
export interface BusConfig {
  readonly name: string;
  readonly bus: BusSettings;
  readonly inbound: {
    readonly maxMessageBytes: number;
    readonly tasks: { readonly maxAgeMs: number; readonly scopeHeaders: readonly string[] };
  };
  readonly outbound: {
    readonly clusters: ReadonlyMap<string, { readonly bus?: string | undefined }>;
  };
}

export interface BusEvents {
  /** @param because '' while there is a connection */
  onBusConnected(connected: boolean, because: string): void;
  /** A bus that works has something to tell a person. */
  onBusNotice(notice: string): void;
  /** An error that is no answer of the log: a defect. */
  onBusDefect(error: unknown): void;
}

export interface BusEnvironment {
  readonly events: BusEvents;
  /** The digest of the scope of a caller that sends these fields (`proxy/caller-scope.ts`). */
  readonly scopeOf: (fields: Fields, scopeHeaders: readonly string[]) => string;
}

/** How the bus is, for pages and metrics. */
export interface BusView {
  readonly engine: 'local' | 'nats';
  readonly connected: boolean;
  /** '' while connected. */
  readonly problem: string;
  /** Of this sidecar's agent types. */
  readonly queues: readonly QueueStatus[];
  /** The agent types that this sidecar publishes tasks for, and those that it takes. */
  readonly publishes: readonly string[];
  readonly takes: readonly string[];
}

export class Bus implements Publishing {
  /** There whether or not `bus.url` names a log; {@link isOn} says so. */
  readonly log = new StandingLog();
  readonly counts = new TaskCounts();
  readonly waiting = new WaitingCallers();
  readonly memory = new BusMemory();
  /** Seals with the keys of `bus.encrypt_key_file`, which change with the file. */
  readonly sealer: Sealer = {
    seal: (payload) => this.keys.seal(payload),
    open: (payload) => this.keys.open(payload),
    opener: () => this.keys.opener(),
  };
  private keys: Sealer = UNSEALED;
  publisher = '';
  private readonly environment: BusEnvironment;
  private readonly calls: Publisher;
  private config: BusConfig;
  private queues: readonly QueueStatus[] = [];
  private opened = '';
  private timer: NodeJS.Timeout | undefined = undefined;
  private attendance: NodeJS.Timeout | undefined = undefined;
  private said: string | undefined = undefined;
  private readonly noticed = new Set<string>();

  constructor(config: BusConfig, environment: BusEnvironment) {
    this.config = config;
    this.environment = environment;
    this.calls = new Publisher(this);
    this.log.onConnected = () => this.report();
  }

  /** Begins to open the log. A bus that is away keeps nothing from being served that needs no bus. */
  apply(config: BusConfig): void {
    this.config = config;
    const { bus, name } = config;
    const { url } = bus;
    for (const agentType of this.agentTypes) this.counts.declare(agentType);
    this.memory.setMax(bus.maxMemoryBytes);
    if (url === undefined) return;
    this.publisher = isVerified(bus) ? name : '';
    const { publisher } = this;
    const { carryHeaders, maxMemoryBytes, ...ofLog } = bus;
    const wanted = JSON.stringify([ofLog, publisher, markOf(bus.encryptKeyFile)]);
    if (wanted === this.opened) return;
    this.opened = wanted;
    this.keys = this.readKeys(bus);
    this.log.use(() => this.open(bus, url));
    this.timer ??= setInterval(() => void this.countQueues(), STATUS_MS).unref();
    clearInterval(this.attendance);
    this.attendance = setInterval(() => this.attend(), bus.consume.leaseMs * ATTENDED_AFTER).unref();
  }

  private attend(): void {
    // The next round reports a failure of this one.
    if (this.waiting.waiting > 0) this.log.attend(this.waiting.sidecar).catch(() => {});
  }

  /** Nothing goes out in plain while the keys can't be read; opening the log says why they can't. */
  private readKeys(bus: BusSettings): Sealer {
    try {
      return sealerOf(bus);
    } catch {
      return this.keys === UNSEALED ? NO_KEYS : this.keys;
    }
  }

  private async open(bus: BusSettings, url: string): Promise<TaskLog> {
    this.keys = sealerOf(bus);
    return await openLog(bus, url, this.publisher);
  }

  get isOn(): boolean {
    return this.config.bus.url !== undefined;
  }

  /** Opens a connection on which the calls of a cluster become tasks for this agent type. */
  connect(agentType: string, onread: OnReadOpts): Socket {
    return this.calls.connect(agentType, onread);
  }

  get settings(): PublishingSettings {
    const { maxMessageBytes, tasks } = this.config.inbound;
    return { maxMessageBytes, joinEndedForMs: tasks.maxAgeMs };
  }

  scopeOf(fields: Fields): string {
    return this.environment.scopeOf(fields, this.config.inbound.tasks.scopeHeaders);
  }

  fieldsOf({ fields }: { readonly fields: Fields }): Fields {
    const { scopeHeaders } = this.config.inbound.tasks;
    return carriedFields(fields, { scopeHeaders, carryHeaders: this.config.bus.carryHeaders });
  }

  onDefect(error: unknown): void {
    this.environment.events.onBusDefect(error);
  }

  /** Undefined without a bus. */
  get view(): BusView | undefined {
    const { bus } = this.config;
    if (bus.url === undefined) return undefined;
    return {
      engine: busPlace(bus.url).engine,
      connected: this.log.connected,
      problem: this.log.problem,
      queues: this.allQueues(),
      publishes: this.published,
      takes: bus.consume.agentTypes,
    };
  }

  /** One entry for each agent type of this sidecar, also for those that the log has never heard of. */
  private allQueues(): QueueStatus[] {
    return Array.from(this.agentTypes, (agentType) => {
      const counted = this.queues.find((queue) => queue.agentType === agentType);
      return counted ?? { agentType, queued: 0, running: 0, dead: 0, oldestMs: 0 };
    });
  }

  private get published(): string[] {
    const types = [...this.config.outbound.clusters.values()].flatMap(({ bus }) => bus ?? []);
    return [...new Set(types)];
  }

  private get agentTypes(): ReadonlySet<string> {
    return new Set([...this.published, ...this.config.bus.consume.agentTypes]);
  }

  private report(): void {
    const { connected, problem } = this.log;
    if (problem === this.said) return;
    this.said = problem;
    this.environment.events.onBusConnected(connected, problem);
    if (connected) void this.countQueues();
  }

  /** For all, not for this sidecar alone: the log counts them anyway. */
  private async countQueues(): Promise<void> {
    try {
      this.queues = await this.log.status();
      for (const notice of this.log.notices) {
        if (this.noticed.has(notice)) continue;
        this.noticed.add(notice);
        this.environment.events.onBusNotice(notice);
      }
    } catch {
      // The state of the connection says it, and the last counts stay.
    }
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    clearInterval(this.attendance);
    this.calls.close();
    await this.log.close();
  }
}

/** Throws LogSetupError when the keys can't be read. */
function sealerOf({ encryptKeyFile }: BusSettings): Sealer {
  return encryptKeyFile === undefined ? UNSEALED : openKeyFile(encryptKeyFile);
}

const NO_KEYS: Sealer = { seal: withoutKeys, open: withoutKeys, opener: withoutKeys };

function withoutKeys(): never {
  throw new LogUnavailableError('the keys of bus.encrypt_key_file can not be read', false);
}

/** Changes when the file does. */
function markOf(file: string | undefined): string {
  if (file === undefined) return '';
  const stats = statSync(file, { throwIfNoEntry: false });
  return stats === undefined ? 'none' : `${stats.ino} ${stats.size} ${stats.mtimeMs}`;
}
