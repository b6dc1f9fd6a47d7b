/** The journal of one sidecar: opens its store, seals what goes there, and begins the journals of runs. Puts the rooms together. */
import { createHmac, type Hmac, hash } from 'node:crypto';
import { LogSetupError } from '../bus/log/log-errors.ts';
import { readKeys } from '../bus/message/key-file.ts';
import { type Sealer, UNSEALED } from '../bus/message/sealer.ts';
import { KeySealer } from '../bus/message/sealing.ts';
import type { BusSettings } from '../bus/settings.ts';
import type { JournalStats } from '../telemetry/journal-stats.ts';
import { openStore } from './open-store.ts';
import { differenceOf } from './record/body-print.ts';
import type { Asked, NameOfBytes } from './run/run-context.ts';
import { RunJournal } from './run/run-journal.ts';
import type { JournalSettings } from './settings.ts';
import { StandingStore } from './standing-store.ts';

/** The part of the configuration that the journal reads. */
export interface JournalConfig {
  readonly name: string;
  readonly journal: JournalSettings;
  readonly bus: BusSettings;
}

export interface JournalEnvironment {
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly stats: JournalStats;
  /** Seals what the bus keeps. */
  readonly busSealer: Sealer;
  /** The verified name of this sidecar on the bus, or ''. */
  readonly publisher: () => string;
  /** @param because '' while there is a connection */
  onConnected(connected: boolean, because: string): void;
}

/** A run of a task, as its listener knows it. */
export interface JournaledRun {
  /** Equal for all runs of one task, of one caller; text of any length. */
  readonly task: string;
  /** The id of the task, for people. */
  readonly taskId: string;
  /** Calls `listener` once, when the run is over: `isFinal` says that no other run follows it. */
  whenOver(listener: (isFinal: boolean) => void): void;
}

/** Keys to seal with, and the names that they give to requests. */
interface Keys {
  readonly sealer: Sealer;
  readonly secret: Buffer | undefined;
}

export class Journal {
  private readonly environment: JournalEnvironment;
  private readonly store: StandingStore;
  private readonly runs = new WeakMap<object, RunJournal>();
  private keys: Keys = { sealer: UNSEALED, secret: undefined };
  private settings: JournalSettings;
  private opened = '';

  constructor(config: JournalConfig, environment: JournalEnvironment) {
    this.environment = environment;
    this.settings = config.journal;
    this.store = new StandingStore((connected, because) => environment.onConnected(connected, because));
  }

  /** Begins to open the store. Without it requests go to the provider, as without a journal. */
  apply({ name, journal, bus }: JournalConfig): void {
    this.settings = journal;
    const wanted = JSON.stringify([name, journal, journal.store === 'bus' ? bus : undefined]);
    if (wanted === this.opened) return;
    this.opened = wanted;
    if (journal.store === undefined) this.store.use(undefined);
    else
      this.store.use(async () => {
        this.keys = this.readKeys(journal);
        return await openStore(journal, bus, { name, publisher: this.environment.publisher() });
      });
  }

  get isOn(): boolean {
    return this.settings.store !== undefined;
  }

  get connected(): boolean {
    return this.store.connected;
  }

  get stats(): JournalStats {
    return this.environment.stats;
  }

  /** Why the store can't be used; '' while it can. */
  get problem(): string {
    return this.store.problem;
  }

  get maxAnswerBytes(): number {
    return this.settings.maxAnswerBytes;
  }

  /** The journal of a run; undefined while there is none. */
  of(run: JournaledRun): RunJournal | undefined {
    if (!this.isOn) return undefined;
    const known = this.runs.get(run);
    if (known !== undefined) return known;
    const { store, keys, environment, settings } = this;
    const begun = new RunJournal(
      {
        store,
        maxTaskBytes: settings.maxTaskBytes,
        events: this.eventsOf(run.taskId, environment.stats),
        digestOf: (task, asked) => digestOf(keys.secret, task, asked),
        seal: (payload) => keys.sealer.seal(payload),
        open: (payload) => {
          try {
            return keys.sealer.open(payload);
          } catch {
            return undefined;
          }
        },
      },
      nameOf(keys.secret, run.task),
    );
    this.runs.set(run, begun);
    run.whenOver((isFinal) => begun.end(isFinal));
    return begun;
  }

  private eventsOf(taskId: string, stats: JournalStats) {
    return {
      onReplayed: () => void stats.replayed++,
      onMissed: () => void stats.missed++,
      onStored: () => void stats.stored++,
      onNotStored: () => void stats.unstored++,
      onLate: () => void stats.late++,
      onDiffers: (
        { path, print }: Asked,
        nameOf: NameOfBytes,
        { asked }: { asked: { print: Omit<Asked['print'], 'digest'> } },
      ) => {
        const difference = differenceOf(print, asked.print);
        if (difference === undefined) return;
        const { fromByte, toByte } = difference;
        stats.noteDifference({
          atMs: Date.now(),
          taskId,
          path,
          fromByte,
          toByte,
          at: nameOf(fromByte, toByte),
        });
      },
    };
  }

  /** Throws LogSetupError: nothing is kept in plain where keys were asked for. */
  private readKeys({ encryptKeyEnv, store }: JournalSettings): Keys {
    if (encryptKeyEnv === undefined)
      return { sealer: store === 'bus' ? this.environment.busSealer : UNSEALED, secret: undefined };
    const text = this.environment.variables[encryptKeyEnv] ?? '';
    if (text === '')
      throw new LogSetupError(
        `journal.encrypt_key_env: the variable ${encryptKeyEnv} is not set: put a key as \`openssl rand -base64 32\` prints it there`,
      );
    const keys = readKeys(text, encryptKeyEnv);
    return { sealer: new KeySealer(keys), secret: keys.keys[0] };
  }

  async close(): Promise<void> {
    await this.store.close();
  }
}

const NAME = 'outrigger journal task:';
const PLACE = 'outrigger journal request:';

/** With a key, nobody without it can tell whether a guess of the text is right. */
function digester(secret: Buffer | undefined): Hmac {
  return createHmac('sha256', secret ?? '');
}

function nameOf(secret: Buffer | undefined, task: string): string {
  return digester(secret).update(NAME).update(task).digest('base64url');
}

/** Equal for equal requests of one task; requests of two tasks can't be compared. */
function digestOf(secret: Buffer | undefined, task: string, { method, path, variant, print }: Asked): string {
  const head = hash('sha256', JSON.stringify([task, method, path, variant]), 'buffer');
  return digester(secret).update(PLACE).update(head).update(print.digest).digest('base64url');
}
