/** The folders in which runs work: one for each task of a caller, until it has not been used for some time. */
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdirSync, rmSync, utimesSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ownRootName, removeDeadRoots } from './roots.ts';
import { runUser } from './sandboxed-run.ts';

export interface WorkspaceSettings {
  path: string;
  /** A workspace that no run has used for this time is deleted. */
  maxAgeMs: number;
  /** Above it, the workspace that was unused for longest goes. */
  most: number;
}

interface Workspace {
  path: string;
  usedMs: number;
  runs: number;
}

/** Makes a folder the property of the user of runs, and of nobody else. */
export function giveToRuns(folder: string): void {
  chmodSync(folder, 0o700);
  if (process.getuid?.() === 0) chownSync(folder, runUser, runUser);
}

export class Workspaces {
  readonly root: string;
  private readonly settings: WorkspaceSettings;
  private readonly known = new Map<string, Workspace>();
  private readonly timer: NodeJS.Timeout;

  /** Deletes what processes that have ended have left; other runners may work beside it. @throws if the folder can't be made */
  constructor(settings: WorkspaceSettings) {
    this.settings = settings;
    const all = join(settings.path, 'workspaces');
    this.root = join(all, ownRootName());
    mkdirSync(this.root, { recursive: true, mode: 0o711 });
    for (const folder of [all, this.root]) chmodSync(folder, 0o711);
    removeDeadRoots(all, Date.now());
    this.timer = setInterval(() => this.look(all, Date.now()), 30_000);
    this.timer.unref();
  }

  /**
   * The workspace of a task, for one run; `release` ends the use.
   *
   * @param key what tells the tasks of all callers apart; undefined for a workspace that is this run's alone
   */
  take(key: string | undefined): { path: string; release(): void } {
    const name = key === undefined ? undefined : createHash('sha256').update(key).digest('hex');
    const known = name === undefined ? undefined : this.known.get(name);
    const workspace = known ?? { path: this.make(), usedMs: 0, runs: 0 };
    // Somebody may have cleaned up.
    if (!existsSync(workspace.path)) this.make(workspace.path);
    workspace.runs++;
    if (name !== undefined) {
      // The one used last is the last of the map.
      this.known.delete(name);
      this.known.set(name, workspace);
      this.sweep(Date.now());
    }
    return {
      path: workspace.path,
      release: () => {
        workspace.runs--;
        workspace.usedMs = Date.now();
        if (name === undefined) this.remove(workspace);
      },
    };
  }

  close(): void {
    clearInterval(this.timer);
    rmSync(this.root, { recursive: true, force: true });
  }

  /** No run can guess the name. */
  private make(path = join(this.root, randomBytes(16).toString('hex'))): string {
    mkdirSync(path, { recursive: true, mode: 0o711 });
    giveToRuns(path);
    return path;
  }

  /** Shows other runners that this one lives, and clears up behind those that do not. */
  private look(all: string, nowMs: number): void {
    try {
      utimesSync(this.root, nowMs / 1000, nowMs / 1000);
      removeDeadRoots(all, nowMs);
    } catch {
      // The folder is gone or full: the next run makes it anew, or says why it can't.
    }
    this.sweep(nowMs);
  }

  private sweep(nowMs: number): void {
    let over = this.known.size - this.settings.most;
    for (const [name, workspace] of this.known) {
      const isOld = nowMs - workspace.usedMs > this.settings.maxAgeMs;
      if (workspace.runs > 0 || !(isOld || over > 0)) continue;
      over--;
      this.known.delete(name);
      this.remove(workspace);
    }
  }

  private remove({ path }: Workspace): void {
    rm(path, { recursive: true, force: true, maxRetries: 2 }).catch(() => {});
  }
}
