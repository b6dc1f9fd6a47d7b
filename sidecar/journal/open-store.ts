/** Opens the store that `journal.store` names. Nobody loads an engine without one. */
import { basename, dirname, extname, join } from 'node:path';
import { busPlace } from '../bus/bus-url.ts';
import type { BusSettings } from '../bus/settings.ts';
import type { JournalStore, StoreLimits } from './record/journal-store.ts';
import type { JournalSettings } from './settings.ts';

/** Whose answers are kept. */
export interface StoreOwner {
  /** The sidecars of one name share their answers. */
  readonly name: string;
  /** The verified name on the bus, or ''. */
  readonly publisher: string;
  /** What is there gets the limits of these settings. */
  readonly setUp?: boolean;
}

/** @throws errors whose messages say what to do */
export async function openStore(
  { store, maxAgeMs, maxBytes }: JournalSettings,
  bus: BusSettings,
  { name, publisher, setUp }: StoreOwner,
): Promise<JournalStore> {
  const limits: StoreLimits = { maxAgeMs, maxBytes };
  const url = store === 'bus' ? bus.url : store;
  const place = busPlace(url ?? '');
  if (place.engine === 'local') {
    const { openFileStore } = await import('./file/file-store.ts');
    return await openFileStore(store === 'bus' ? besideTasks(place.path) : place.path, limits);
  }
  const { openNatsStore } = await import('./nats/nats-store.ts');
  return await openNatsStore({
    servers: place.servers,
    tls: bus.tls,
    credentialsFile: bus.credentialsFile,
    publisher: publisher === '' ? undefined : publisher,
    name,
    ...(setUp === undefined ? {} : { setUp }),
    replicas: bus.replicas,
    limits,
  });
}

/** Next to the file of the tasks, so that neither waits for the other: `tasks.db` has `tasks.answers.db`. */
function besideTasks(path: string): string {
  const extension = extname(path);
  return join(dirname(path), `${basename(path, extension)}.answers${extension}`);
}
