/** Checks of the journal that span several settings. */
import { busPlace } from '../bus/bus-url.ts';
import type { Finding } from './problems.ts';
import type { Environment, Notice } from './provider-environment.ts';
import type { FileConfig } from './schema.ts';

/** What contradicts the store of the journal. */
export function checkJournal({ journal: { store }, bus }: FileConfig): Finding[] {
  const say = (message: string, remedy: string): Finding[] => [
    { path: ['journal', 'store'], part: 'value', message, remedy },
  ];
  if (store === 'bus' && bus.url === null)
    return say('is the bus, and bus.url is null', 'set bus.url, or write file:/var/lib/outrigger/journal.db');
  if (store === null || store === 'bus' || bus.url === null) return [];
  const [own, tasks] = [busPlace(store), busPlace(bus.url)];
  if (own.engine === 'local' && tasks.engine === 'local' && own.path === tasks.path)
    return say('is the file of the tasks', 'write bus for a file beside it, or name another file');
  return [];
}

/** What the operator should know of a journal that is on. */
export function journalNotices({ journal, bus }: FileConfig, env: Environment): Notice[] {
  const { store, encrypt_key_env: variable } = journal;
  if (store === null) return [];
  if (variable !== null)
    return (env[variable] ?? '') !== ''
      ? []
      : [
          {
            level: 'warn',
            message: `journal.encrypt_key_env: the variable ${variable} is not set, so no answers are kept; put a key there, as \`openssl rand -base64 32\` prints it`,
          },
        ];
  if (store === 'bus' && bus.encrypt_key_file !== null) return [];
  return [
    {
      level: 'info',
      message:
        'The journal keeps answers of models as they are; journal.encrypt_key_env names a variable with a key to seal them',
    },
  ];
}
