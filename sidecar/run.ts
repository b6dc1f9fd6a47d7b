import type { Config } from './config/config.ts';
import type { ConfigSource } from './config/source.ts';
import { Sidecar } from './sidecar.ts';

export async function runSidecar(source: ConfigSource): Promise<number> {
  const { createServer } = await import('node:http');
  const config: Config = source.current;
  const quiet = () => {};
  const sidecar = new Sidecar(config, {
    onEndpoints: quiet,
    onDiscoveryError: quiet,
    onConnectFailed: quiet,
    onEndpointUsable: quiet,
    onConnectionError: quiet,
    onDrainState: quiet,
  });
  await sidecar.start();
  const [host, port] = [
    config.health.listen.slice(0, config.health.listen.lastIndexOf(':')),
    Number(config.health.listen.split(':').at(-1)),
  ];
  const health = createServer((request, response) => {
    const because = request.url === '/healthz/ready' ? sidecar.notReadyBecause : undefined;
    response.writeHead(because === undefined ? 200 : 503).end(because ?? 'ok');
  }).listen(port, host);
  await new Promise((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
  await sidecar.drain();
  health.close();
  health.closeAllConnections();
  return 0;
}
