/** The entry point of the gateway's process. */
import { endProcess } from '../../sidecar/node/end-process.ts';
import { createLogger } from '../process/logger.ts';
import { endOnUnexpectedErrors } from '../process/unexpected.ts';
import { startTracing, stopTracing } from '../tracing/tracing.ts';
import { createGateway } from './app.ts';
import { startHealthServer } from './health-server.ts';
import { readGatewaySettings } from './settings.ts';
import { keepYoungMemorySmall } from './young-memory.ts';

/** Runs the gateway as this process. settings.ts lists the environment variables. */
const log = createLogger('gateway');
endOnUnexpectedErrors(log);
keepYoungMemorySmall();
let endOpen: () => unknown = () => {};
try {
  const settings = readGatewaySettings(process.env);
  await startTracing('gateway', process.env);
  const { app, stop } = await createGateway(settings, log);
  // A failed accept, for instance without free file descriptors, would otherwise end the process with all requests.
  app.server.on('error', (error) => {
    if (app.server.listening) log.warn({ err: error }, 'the gateway could not accept a connection');
  });
  // If a later part can't start, open servers would keep the process alive.
  endOpen = () => stop(0);
  const address = await app.listen({ host: settings.host, port: settings.port });
  const { healthListen } = settings;
  const endHealth = healthListen === '' ? undefined : await startHealthServer(healthListen);

  let signalled = false;
  const end = async (signal: NodeJS.Signals) => {
    if (signalled) endProcess(1);
    signalled = true;
    log.info({ signal, limitMs: settings.drainTimeoutMs }, 'shutting down; waiting for the running requests');
    endHealth?.();
    await stop(settings.drainTimeoutMs);
    await stopTracing(1_000);
    log.info('stopped');
    endProcess(0);
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  // Last, because a reader of this line may send a signal at once.
  log.info({ address }, 'listening');
} catch (error) {
  log.fatal({ err: error }, 'cannot start');
  process.exitCode = 1;
  await endOpen();
  await stopTracing(1_000);
}
