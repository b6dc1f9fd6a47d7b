/** PEM files for connections that we open, read again when they change. */
import { statSync } from 'node:fs';
import { readMaterial, TlsFileError, type TlsFiles, type TlsMaterial } from './material.ts';

export class FreshMaterial {
  private readonly files: TlsFiles;
  private known: TlsMaterial;
  private state: string;

  /** Throws TlsFileError where a file can't be used. */
  constructor({ cert, key, ca }: Partial<TlsFiles>) {
    this.files = { cert, key, ca };
    this.state = this.stateOfFiles();
    this.known = readMaterial(this.files);
  }

  /** What the files hold now; what they held before while they can't be used, as in the middle of a rotation. */
  get current(): TlsMaterial {
    const state = this.stateOfFiles();
    if (state === this.state) return this.known;
    try {
      this.known = readMaterial(this.files);
      this.state = state;
    } catch (error) {
      if (!(error instanceof TlsFileError)) throw error;
    }
    return this.known;
  }

  private stateOfFiles(): string {
    const { cert, key, ca } = this.files;
    return [cert, key, ca].map((file) => (file === undefined ? '' : stateOf(file))).join(' ');
  }
}

function stateOf(file: string): string {
  const stats = statSync(file, { throwIfNoEntry: false });
  return stats === undefined ? 'none' : `${stats.ino} ${stats.mtimeMs} ${stats.size}`;
}
