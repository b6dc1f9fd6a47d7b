/** The settings of the journal: where answers that were paid for are kept, for how long, and how much of them. */
import * as z from 'zod';
import { readBusUrl } from '../bus/bus-url.ts';
import { age, checked, size, text } from '../settings/kinds.ts';
import type { SettingsOf } from '../settings/settings-of.ts';

const GIB = 1_073_741_824;

function store() {
  const form = 'bus, or a file such as file:/var/lib/outrigger/journal.db';
  return checked(z.string(), form, (value) => {
    if (value === 'bus') return undefined;
    const remedy = 'write bus for the store of the bus, or file:/var/lib/outrigger/journal.db';
    if (!value.startsWith('file:')) return { message: 'names no store', remedy };
    const read = readBusUrl(value);
    return 'engine' in read ? undefined : { message: read.message, remedy };
  });
}

/** `journal`. */
export const journal = z
  .strictObject({
    store: store()
      .nullable()
      .default(null)
      .describe(
        'Where answers of models are kept for the next run of a task: bus, or file:/PATH; null keeps none',
      ),
    max_age: age().default('1h').describe('How long an answer is kept whose task has not ended'),
    max_answer_bytes: size(1_024, 67_108_864).default('1MiB').describe('A larger answer is not kept'),
    max_task_bytes: size(1_024, GIB).default('16MiB').describe('What the answers of one task may take'),
    max_bytes: size(1_048_576, 1_024 * GIB)
      .default('256MiB')
      .describe('What all answers may take; the oldest make room'),
    encrypt_key_env: text('the name of an environment variable', /^[A-Za-z_][A-Za-z0-9_]*$/)
      .nullable()
      .default(null)
      .describe(
        'The environment variable with keys as in bus.encrypt_key_file: the first seals the answers, all open them',
      ),
  })
  .prefault({})
  .describe('Answers of models that a lost run has paid for, for the next run of its task');

export type JournalSettings = SettingsOf<typeof journal>;
