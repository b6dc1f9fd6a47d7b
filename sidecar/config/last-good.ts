/** Stores the last good configuration file for a start with a broken one. */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FileError, readRegularFile } from '../files/regular-file.ts';
import { MAX_FILE_BYTES } from './yaml-file.ts';

const FILE = 'last-good.yaml';
/** Private, because a configuration names hosts and may hold the password of a URL. */
const MODE = 0o600;

/** Keeps the configuration file that was last in use in a folder. A start with a broken file uses this one instead. */
export class LastGood {
  readonly folder: string;
  private kept = '';

  constructor(folder: string) {
    this.folder = folder;
  }

  /** The stored text; undefined when there is none, or it is unreadable. */
  read(): string | undefined {
    try {
      return readRegularFile(join(this.folder, FILE), MAX_FILE_BYTES).toString('utf8');
    } catch (error) {
      if (error instanceof FileError) return undefined;
      throw error;
    }
  }

  /**
   * Replaces the stored text, atomically.
   *
   * @returns why it failed; undefined for success
   */
  keep(text: string): string | undefined {
    if (text === this.kept) return undefined;
    const path = join(this.folder, FILE);
    try {
      mkdirSync(this.folder, { recursive: true });
      writeFileSync(`${path}.new`, text, { mode: MODE });
      renameSync(`${path}.new`, path);
      this.kept = text;
      return undefined;
    } catch (error) {
      return `${path} can not be written (${(error as NodeJS.ErrnoException).code}); check --last-good`;
    }
  }
}
