/** What the main thread asks the thread of the file, and what that answers. Everything here is copied between them. */
import type { BegunRun, StoreLimits, Written } from '../record/journal-store.ts';

/** Operations by name: what goes in, what comes out. */
export interface Operations {
  begin: { in: { task: string }; out: BegunRun };
  read: { in: { reference: number }; out: Uint8Array | undefined };
  write: { in: { task: string; run: number; place: string; payload: Uint8Array }; out: Written };
  drop: { in: { task: string; run: number }; out: undefined };
  close: { in: object; out: undefined };
}

export type OperationName = keyof Operations;

export type Request = {
  [Name in OperationName]: {
    readonly id: number;
    readonly name: Name;
    readonly input: Operations[Name]['in'];
  };
}[OperationName];

export type FromThread =
  | { readonly name: 'opened' }
  | { readonly name: 'refused'; readonly message: string }
  | { readonly name: 'done'; readonly id: number; readonly output: unknown }
  | { readonly name: 'failed'; readonly id: number; readonly message: string };

export interface ThreadData {
  readonly file: string;
  readonly limits: StoreLimits;
}
