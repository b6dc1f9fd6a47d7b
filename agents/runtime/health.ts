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

/** What an agent's server has beside agent.AgentService. */
export interface MoreHealth {
  /** Names of further services. */
  readonly services?: readonly string[];
  /** Why the agent takes no tasks; undefined while it does. Asked for at each check. */
  problem?(): string | undefined;
  /** Why one of `services` takes no tasks; undefined while it does. */
  serviceProblem?(service: string): string | undefined;
  /** Added to the checks of HealthCheck. */
  checks?(): Readonly<Record<string, string>>;
}

/** The limit of open Watch streams; a sidecar needs one. */
const maxWatchers = 100;

/**
 * Whether the agent accepts tasks: from its start until it stops. It judges nothing else about itself; the sidecar
 * judges an agent that fails.
 */
export class Health {
  private readonly agent: Agent;
  private readonly more: MoreHealth;
  /** The names for which grpc.health.v1 answers: the server as a whole, and its services. */
  private readonly knownServices: ReadonlySet<string>;
  private readonly watchers = new Set<Watcher>();
  private serving = true;

  constructor(agent: Agent, more: MoreHealth = {}) {
    this.agent = agent;
    this.more = more;
    this.knownServices = new Set(['', 'agent.AgentService', ...(more.services ?? [])]);
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
    const problem = this.more.problem?.();
    const runtime = !this.serving ? 'stopping' : problem === undefined ? 'serving' : `not ready: ${problem}`;
    const healthy = this.serving && problem === undefined;
    answer(null, { healthy, agent_name: name, version, checks: { runtime, ...this.more.checks?.() } });
  };

  /** grpc.health.v1.Health */
  readonly service: UntypedServiceImplementation = {
    Check: ((call, answer) => {
      const { service } = call.request;
      if (this.knownServices.has(service)) answer(null, { status: this.statusOf(service) });
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
    if (!this.knownServices.has(service)) return 'SERVICE_UNKNOWN';
    const problem = this.more.problem?.() ?? this.more.serviceProblem?.(service);
    return this.serving && problem === undefined ? 'SERVING' : 'NOT_SERVING';
  }
}
