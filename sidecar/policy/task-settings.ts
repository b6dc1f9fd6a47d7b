/** The settings of tasks. */
import * as z from 'zod';
import { flag } from '../settings/kinds.ts';
import type { SettingsOf } from '../settings/settings-of.ts';

/** `task` of a cluster. */
export const task = z.strictObject({
  status_is_verdict: flag()
    .default(true)
    .describe('OK with TaskResponse.status FAILED or TIMEOUT is a failure'),
  deduplicate: flag()
    .default(true)
    .describe('The other side de-duplicates by task id, so tasks may be retried'),
});

export type TaskSettings = SettingsOf<typeof task>;
