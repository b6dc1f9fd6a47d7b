/** Opens the log that `bus.url` names. Nobody loads an engine, its client or its thread without one. */
import { busPlace } from './bus-url.ts';
import type { TaskLog } from './log/task-log.ts';
import { type BusSettings, taskLogSettings } from './settings.ts';

/**
 * @param publisher the verified name of this sidecar on the log, or ''
 * @param setUp makes what tasks of these agent types need, and gives what is there these settings
 * @throws LogSetupError or LogUnavailableError, whose messages say what to do
 */
export async function openLog(
  bus: BusSettings,
  url: string,
  publisher: string,
  setUp?: { readonly agentTypes: readonly string[] },
): Promise<TaskLog> {
  const settings = taskLogSettings(bus);
  const place = busPlace(url);
  if (place.engine === 'local') {
    const { openLocalTaskLog } = await import('./local/local-task-log.ts');
    return openLocalTaskLog(place.path, settings);
  }
  const { openNatsLog } = await import('./nats/nats-task-log.ts');
  return openNatsLog({
    servers: place.servers,
    tls: bus.tls,
    credentialsFile: bus.credentialsFile,
    settings,
    replicas: bus.replicas,
    publisher: publisher === '' ? undefined : publisher,
    setUp,
  });
}
