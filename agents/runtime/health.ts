/** The agent's health services. */
import {
  type handleUnaryCall,
  Metadata,
  type ServerWritableStream,
  type ServiceError,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { HealthResponse, ServingStatus } from '../protocol/messages.ts';
import type { Agent } from './agent.ts';

interface HealthCheckRequest {
  service: string;
}

type Watcher = ServerWritableStream<HealthCheckRequest, { status: ServingStatus }>;

/** The names for which grpc.health.v1 answers: the server as a whole, and its one service. */
const knownServices: ReadonlySet<string> = new Set(['', 'agent.AgentService']);

/** The limit of open Watch streams; a sidecar needs one. */
const maxWatchers = 100;

/**
 * Whether the agent accepts tasks: from its start until it stops. It judges nothing else about itself; the sidecar
 * judges an agent that fails.
 */
export class Health {
  private readonly agent: Agent;
  private readonly watchers = new Set<Watcher>();
  private serving = true;

  constructor(agent: Agent) {
    this.agent = agent;
  }

  /** Reports NOT_SERVING from now on and ends the watches, which would otherwise keep the server open. */
  stop(): void {
    this.serving = false;
    for (const watcher of this.watchers) {
      watcher.write({ status: this.statusOf(watcher.request.service) });
      watcher.end();
    }
    this.watchers.clear();
  }

  /** agent.AgentService/HealthCheck */
  readonly agentCheck: handleUnaryCall<object, HealthResponse> = (_call, answer) => {
    const { name, version } = this.agent;
    const checks = { runtime: this.serving ? 'serving' : 'stopping' };
    answer(null, { healthy: this.serving, agent_name: name, version, checks });
  };

  /** grpc.health.v1.Health */
  readonly service: UntypedServiceImplementation = {
    Check: ((call, answer) => {
      const { service } = call.request;
      if (knownServices.has(service)) answer(null, { status: this.statusOf(service) });
      else answer({ code: status.NOT_FOUND, details: 'unknown service', metadata: new Metadata() });
    }) as handleUnaryCall<HealthCheckRequest, { status: ServingStatus }>,
    Watch: (call: Watcher) => {
      if (this.watchers.size >= maxWatchers) {
        const refused: Partial<ServiceError> = {
          code: status.RESOURCE_EXHAUSTED,
          details: `at most ${maxWatchers} watches at a time`,
        };
        call.emit('error', refused);
        return;
      }
      call.write({ status: this.statusOf(call.request.service) });
      if (!this.serving) {
        call.end();
        return;
      }
      this.watchers.add(call);
      call.on('cancelled', () => this.watchers.delete(call));
    },
  };

  private statusOf(service: string): ServingStatus {
    if (!knownServices.has(service)) return 'SERVICE_UNKNOWN';
    return this.serving ? 'SERVING' : 'NOT_SERVING';
  }
}
