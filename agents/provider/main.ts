/** The entry point of the offline provider's process. */
import { wholeNumber } from '../process/environment.ts';
import { startProvider } from './server.ts';

/** Runs the offline provider as this process: PROVIDER_HOST (127.0.0.1), PROVIDER_PORT (18080; 0 for any). */
const host = process.env['PROVIDER_HOST'] || '127.0.0.1';
try {
  const port = wholeNumber(process.env, 'PROVIDER_PORT', 18080, [0, 65_535]);
  const provider = await startProvider(host, port);
  console.log(JSON.stringify({ msg: 'listening', address: provider.baseUrl }));
  const stop = async () => {
    await provider.close();
    process.exit(0);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
} catch (error) {
  console.error(`the offline provider cannot start: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
