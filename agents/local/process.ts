/** Starts, watches and ends one process of the local system. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** A process of the local system: its program, and the check that it is ready. */
export interface ProcessDescription {
  name: string;
  /** A file of the repository, relative to its root. */
  file: string;
  args: readonly string[];
  env: Readonly<Record<string, string>>;
  /** True once the process is usable. It runs repeatedly, so it has to be cheap; it may reject. */
  isReady(): Promise<boolean>;
}

const root = fileURLToPath(new URL('../../', import.meta.url));
const preload = new URL('end-with-parent.ts', import.meta.url).href;

const keptLines = 200;
const reportedLines = 30;
const longestLineChars = 2000;
const askAgainMs = 50;

/** Runs one process: keeps its last log lines, waits until it is ready, and ends it. */
export class ManagedProcess {
  readonly name: string;
  readonly description: ProcessDescription;
  private readonly child: ChildProcess;
  private readonly lines: string[] = [];
  /** Resolves with a description when the process has ended. */
  readonly ended: Promise<string>;
  private hasEnded = false;
  /**
   * A helper process that continues a paused process when its standard input ends: after resume(), or if this process
   * dies.
   */
  private waker: ChildProcess | undefined = undefined;

  constructor(description: ProcessDescription, onLine?: (name: string, line: string) => void) {
    this.name = description.name;
    this.description = description;
    this.child = spawn(process.execPath, ['--import', preload, description.file, ...description.args], {
      cwd: root,
      env: description.env,
      stdio: ['pipe', 'pipe', 'pipe'],
      // In its own process group: Ctrl-C reaches only the starter, which then stops the others in order.
      detached: true,
    });
    for (const output of [this.child.stdout!, this.child.stderr!]) {
      createInterface({ input: output }).on('line', (line) => {
        this.lines.push(line.slice(0, longestLineChars));
        if (this.lines.length > keptLines) this.lines.shift();
        onLine?.(this.name, line);
      });
    }
    // A closed pipe raises an error here; the end of the process reports more.
    this.child.stdin!.on('error', () => {});
    this.ended = once(this.child, 'close').then(
      ([code, signal]) => `ended with ${signal ?? `exit code ${code}`}`,
      (error: Error) => `could not be started: ${error.message}`,
    );
    void this.ended.then(() => {
      this.hasEnded = true;
    });
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  get isRunning(): boolean {
    return !this.hasEnded;
  }

  /** Its last log lines, for an error message. */
  lastWords(): string {
    if (this.lines.length === 0) return '    (no log lines)';
    return this.lines
      .slice(-reportedLines)
      .map((line) => `    ${line}`)
      .join('\n');
  }

  /** @throws Error with the name of the process and its last log lines, if it ends or is not ready when the signal fires */
  async ready(limit: AbortSignal): Promise<void> {
    const ended = this.ended.then((how) => {
      throw new Error(`${this.name} ${how} before it was ready. Its last lines:\n${this.lastWords()}`);
    });
    const late = once(limit, 'abort').then(() => {
      throw new Error(`${this.name} was not ready in time. Its last lines:\n${this.lastWords()}`);
    });
    let asking = true;
    const ready = (async () => {
      while (asking && !(await this.description.isReady().catch(() => false))) {
        await new Promise((resolve) => setTimeout(resolve, askAgainMs));
      }
    })();
    try {
      await Promise.race([ready, ended, late]);
    } finally {
      asking = false;
      // The losing promises of the race also settle later, without a listener.
      ended.catch(() => {});
      late.catch(() => {});
    }
  }

  /** Sends SIGTERM, and SIGKILL if the process is still running after the limit. Resolves true if it ended by itself. */
  async stop(limitMs: number): Promise<boolean> {
    if (!this.isRunning) return true;
    this.resume();
    let inTime = true;
    const timer = setTimeout(() => {
      inTime = false;
      this.kill();
    }, limitMs);
    this.child.kill('SIGTERM');
    await this.ended;
    clearTimeout(timer);
    return inTime;
  }

  /**
   * Pauses the process as a debugger does (SIGSTOP): its connections stay open and it does not answer.
   *
   * A stopped process does not notice the end of its starter, so a helper has to continue it.
   */
  pause(): void {
    if (!this.isRunning || this.waker !== undefined) return;
    const { pid } = this.child;
    const waker = spawn('sh', ['-c', 'read _; kill -CONT "$1"', 'sh', String(pid)], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    });
    waker.stdin?.on('error', () => {});
    waker.on('error', () => this.resume());
    this.waker = waker;
    this.child.kill('SIGSTOP');
    // The process id may be reused.
    void this.ended.then(() => waker.kill('SIGKILL'));
  }

  /** Continues a paused process. */
  resume(): void {
    if (this.waker === undefined) return;
    this.waker.kill('SIGKILL');
    this.waker = undefined;
    this.child.kill('SIGCONT');
  }

  send(signal: NodeJS.Signals): void {
    if (this.isRunning) this.child.kill(signal);
  }

  /** Kills the process at once (SIGKILL). */
  kill(): void {
    this.child.kill('SIGKILL');
  }
}
