/** The settings of the store of tasks: how many answers it keeps, and for how long. */
import * as z from 'zod';
import { duration, flag, headerName, integer } from '../settings/kinds.ts';
import { type SettingsOf, settingsOf } from '../settings/settings-of.ts';

/** `inbound.tasks`. */
export const tasks = z.strictObject({
  deduplicate: flag().default(true).describe('Run a task once, however often it is sent'),
  // Five minutes cover all tries of a call with a timeout of 60 s, and a manual retry.
  max_age: duration('positive').default('5m').describe('How long an answer can be had again'),
  // Some thousand answers of an agent, a tenth of the sidecar's memory.
  max_bytes: integer(0, 1_073_741_824).default(16_777_216).describe('Memory for all answers'),
  // An hour of tokens, and a tenth of the default `max_message_bytes`.
  max_answer_bytes: integer(0, 1_073_741_824).default(1_048_576).describe('A larger answer is given once'),
  // A caller's sidecar notices a reset at once, and is back within a second or two.
  linger: duration('zero')
    .default('5s')
    .describe('How long a task runs on after its last caller lost its connection; 0s: it ends at once'),
  scope_headers: z
    .array(headerName('a header name such as x-user'))
    .max(32)
    .default(['x-api-key', 'cookie'])
    .describe(
      'Header fields whose values tell callers apart, besides certificate and authorization: no answer, and no work of the agent, is shared between two callers',
    ),
});

type TasksSettings = SettingsOf<typeof tasks>;

export interface TaskStoreSettings
  extends Pick<TasksSettings, 'maxAgeMs' | 'maxBytes' | 'maxAnswerBytes' | 'lingerMs'> {
  readonly maxEntries: number;
}

/** Answers without bytes take at most half a kilobyte each. */
const MAX_ENTRIES = 10_000;
export function taskStoreSettings(settings: TasksSettings): TaskStoreSettings {
  const { maxAgeMs, maxBytes, maxAnswerBytes, lingerMs } = settings;
  return { maxAgeMs, maxBytes, maxAnswerBytes, maxEntries: MAX_ENTRIES, lingerMs };
}

export const TASK_STORE_DEFAULTS: TaskStoreSettings = taskStoreSettings(settingsOf(tasks, tasks.parse({})));
