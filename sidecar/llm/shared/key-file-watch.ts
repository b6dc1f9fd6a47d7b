/** Looks at the files of keys once a second, and tells when one is of no use, and when it is again. */
import type { KeyFile } from './key-file.ts';

export interface KeyFileState {
  /** The setting that names the file: `llm.upstreams.NAME.api_key_file`. */
  readonly setting: string;
  /** Why the file is of no use; '' while it is. */
  readonly problem: string;
  /** Keys of before are in use meanwhile. */
  readonly inUse: boolean;
}

export interface KeyFileEvents {
  /** @param problem what is wrong and what to do; '' when the file is right again */
  onKeyFile?(setting: string, problem: string, inUse: boolean): void;
}

export class KeyFileWatch {
  private readonly said = new Map<string, string>();

  look(
    files: Iterable<readonly [setting: string, file: KeyFile]>,
    nowMs: number,
    events: KeyFileEvents,
  ): KeyFileState[] {
    const states: KeyFileState[] = [];
    for (const [setting, file] of files) {
      file.key(nowMs);
      const { problem, hasKey: inUse } = file;
      states.push({ setting, problem, inUse });
      if (problem === (this.said.get(setting) ?? '')) continue;
      this.said.set(setting, problem);
      events.onKeyFile?.(setting, problem, inUse);
    }
    return states;
  }
}
