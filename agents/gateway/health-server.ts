/** The gateway's gRPC health service, for its sidecar. */
import { Server, ServerCredentials, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { healthService } from '../protocol/definitions.ts';

/**
 * Serves `grpc.health.v1.Health`, the gateway's only gRPC service: its sidecar checks the process beside it, and would
 * otherwise never become ready.
 *
 * @returns a function that stops the server
 * @throws Error if the address cannot be bound
 */
export async function startHealthServer(listen: string): Promise<() => void> {
  const server = new Server();
  const handlers = {
    Check: (_call: unknown, answer: (error: null, response: { status: string }) => void) =>
      answer(null, { status: 'SERVING' }),
  };
  server.addService(healthService, handlers as unknown as UntypedServiceImplementation);
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(listen, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
  return () => server.forceShutdown();
}
