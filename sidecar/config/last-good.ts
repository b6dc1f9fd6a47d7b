import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FileError, readRegularFile } from '../files/regular-file.ts';
import { MAX_FILE_BYTES } from './yaml-file.ts';

const FILE = 'last-good.yaml';
/** A configuration names hosts and may hold the password of a URL. */
const MODE = 0o600;

/** The configuration file that was last in use, kept in a folder: a start whose own file is broken goes by it. */
export class LastGood {
  readonly folder: string;
  private kept = '';

  constructor(folder: string) {
    this.folder = folder;
  }

  /** Its text; undefined when none was kept, or it can't be read. */
  read(): string | undefined {
    try {
      return readRegularFile(join(this.folder, FILE), MAX_FILE_BYTES).toString('utf8');
    } catch (error) {
      if (error instanceof FileError) return undefined;
      throw error;
    }
  }

  /**
   * Keeps a text in the place of the one before; never half of one.
   *
   * @returns why that was not possible; undefined when it was
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
