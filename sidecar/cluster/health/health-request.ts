/** The health requests that a probe can send. */
import {
  frameMessage,
  readAgentHealthy,
  readServingStatus,
  ServingStatus,
  writeHealthRequest,
} from '../../task/health-message.ts';

/** A request for an endpoint's health, and how to read the answer. */
export interface HealthRequest {
  readonly path: string;
  /** The message with its gRPC prefix. */
  readonly request: Buffer;
  /** Whether the message at `start` reports that the endpoint serves. */
  readonly serves: (buffer: Buffer, start: number, end: number) => boolean;
}

/** Uses `grpc.health.v1`; '' means the server as a whole. */
export function grpcHealth(service: string): HealthRequest {
  return {
    path: '/grpc.health.v1.Health/Check',
    request: writeHealthRequest(service),
    serves: (buffer, start, end) => readServingStatus(buffer, start, end) === ServingStatus.SERVING,
  };
}

/** Uses the agents' own HealthCheck. */
export const AGENT_HEALTH: HealthRequest = {
  path: '/agent.AgentService/HealthCheck',
  request: frameMessage(Buffer.alloc(0)),
  serves: readAgentHealthy,
};

/**
 * Asks a sidecar whether its app's HTTP/2 answers at this moment. An older sidecar asks its app for the health of a service
 * of that name, and any answer to that is a sign of life as well.
 */
export const SIGN_OF_LIFE_SERVICE = 'outrigger.SignOfLife';
export const SIGN_OF_LIFE = grpcHealth(SIGN_OF_LIFE_SERVICE);
