/** A store that is there from the start of the sidecar to its end, while the engine behind it comes, goes and is replaced. */
import type { BegunRun, JournalStore, Written } from './record/journal-store.ts';

type OpenStore = () => Promise<JournalStore>;

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;

/** Opens its engine, again and again until that works. */
export class StandingStore implements JournalStore {
  readonly isOver = false;
  problem = 'it is being opened';
  private engine: JournalStore | undefined = undefined;
  private open: OpenStore | undefined = undefined;
  private timer: NodeJS.Timeout | undefined = undefined;
  private waitMs = FIRST_WAIT_MS;
  private said: string | undefined = undefined;
  /** Ends with the first try, whatever comes of it. */
  private readonly firstTry = Promise.withResolvers<void>();
  onChange: (() => void) | undefined = undefined;
  private readonly onConnected: (connected: boolean, because: string) => void;

  constructor(onConnected: (connected: boolean, because: string) => void) {
    this.onConnected = onConnected;
  }

  /** Opens an engine in the background; the one before serves until that works. Undefined: there is none from now on. */
  use(open: OpenStore | undefined): void {
    this.open = open;
    this.waitMs = FIRST_WAIT_MS;
    clearTimeout(this.timer);
    if (open !== undefined) void this.tryToOpen(open).then(this.firstTry.resolve);
    else void this.replaceBy(undefined);
  }

  private async tryToOpen(open: OpenStore): Promise<void> {
    try {
      const engine = await open();
      if (open === this.open) await this.replaceBy(engine);
      else await engine.close();
    } catch (error) {
      if (open !== this.open) return;
      this.problem = error instanceof Error ? error.message : String(error);
      this.report();
      this.timer = setTimeout(() => void this.tryToOpen(open), this.waitMs).unref();
      this.waitMs = Math.min(this.waitMs * 2, LONGEST_WAIT_MS);
    }
  }

  private async replaceBy(engine: JournalStore | undefined): Promise<void> {
    const before = this.engine;
    this.engine = engine;
    if (engine !== undefined) engine.onChange = () => this.look();
    this.look();
    await before?.close();
  }

  private look(): void {
    const { engine, open } = this;
    this.problem = engine?.problem ?? '';
    this.report();
    if (engine?.isOver !== true || open === undefined) return;
    this.engine = undefined;
    this.timer = setTimeout(() => void this.tryToOpen(open), FIRST_WAIT_MS).unref();
  }

  private report(): void {
    if (this.open === undefined || this.problem === this.said) return;
    this.said = this.problem;
    this.onConnected(this.connected, this.problem);
  }

  get connected(): boolean {
    return this.engine?.connected ?? false;
  }

  /** A run that begins while the engine is opened for the first time waits for it. */
  private async current(): Promise<JournalStore> {
    if (this.engine === undefined && this.open !== undefined) await this.firstTry.promise;
    if (this.engine === undefined) throw new Error(`the journal can't be used: ${this.problem}`);
    return this.engine;
  }

  async begin(task: string): Promise<BegunRun> {
    return await (await this.current()).begin(task);
  }

  async read(task: string, reference: number): Promise<Buffer | undefined> {
    return await (await this.current()).read(task, reference);
  }

  async write(task: string, run: number, place: string, payload: Buffer): Promise<Written> {
    return await (await this.current()).write(task, run, place, payload);
  }

  async drop(task: string, run: number, last: number): Promise<void> {
    await (await this.current()).drop(task, run, last);
  }

  async close(): Promise<void> {
    this.open = undefined;
    this.firstTry.resolve();
    clearTimeout(this.timer);
    const { engine } = this;
    this.engine = undefined;
    this.problem = 'the sidecar has closed it';
    await engine?.close();
  }
}
