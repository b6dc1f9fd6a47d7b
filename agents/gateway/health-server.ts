import { Server, ServerCredentials, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { healthService } from '../protocol/definitions.ts';

/**
 * Answers `grpc.health.v1.Health` for the gateway, which serves nothing else over gRPC: its sidecar asks what it stands
 * beside, and would otherwise never be ready.
 *
 * @returns ends it
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
