// The shape of a part of the contract.
import type { Test } from 'tap';
import type { OpenLog } from './logs.ts';

/** Tests by the behaviour that they show. */
export type Cases = Readonly<Record<string, (t: Test, open: OpenLog) => Promise<void>>>;
