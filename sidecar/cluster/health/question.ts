import {
  frameMessage,
  readAgentHealthy,
  readServingStatus,
  ServingStatus,
  writeHealthRequest,
} from '../../task/health-message.ts';

/** What is asked of an endpoint's health, and how its answer is read. */
export interface HealthQuestion {
  readonly path: string;
  /** The message with its prefix. */
  readonly request: Buffer;
  /** Whether the message at `start` says that it serves. */
  readonly serves: (buffer: Buffer, start: number, end: number) => boolean;
}

/** `grpc.health.v1`; '' asks for the server as a whole. */
export function grpcHealth(service: string): HealthQuestion {
  return {
    path: '/grpc.health.v1.Health/Check',
    request: writeHealthRequest(service),
    serves: (buffer, start, end) => readServingStatus(buffer, start, end) === ServingStatus.SERVING,
  };
}

/** The agents' own HealthCheck. */
export const AGENT_HEALTH: HealthQuestion = {
  path: '/agent.AgentService/HealthCheck',
  request: frameMessage(Buffer.alloc(0)),
  serves: readAgentHealthy,
};

/**
 * Asks a sidecar whether its app's HTTP/2 answers at this moment. An older one asks its app for a service of that name, and
 * any answer to that is a sign of life as well.
 */
export const SIGN_OF_LIFE_SERVICE = 'outrigger.SignOfLife';
export const SIGN_OF_LIFE = grpcHealth(SIGN_OF_LIFE_SERVICE);
