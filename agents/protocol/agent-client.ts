import {
  type ChannelOptions,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  type Metadata,
  makeClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js';
import { agentService, messageLimits } from './definitions.ts';
import type { HealthResponse, TaskChunk, TaskRequest, TaskResponse } from './messages.ts';

export interface CallOptions {
  deadline?: Date | number;
}

type Answer<T> = (error: ServiceError | null, value?: T) => void;

/** A client of agent.AgentService over one channel. Fields of a request that are left out are proto3's zeros. */
export interface AgentClient {
  ProcessTask(
    task: Partial<TaskRequest>,
    metadata: Metadata,
    options: CallOptions,
    answer: Answer<TaskResponse>,
  ): ClientUnaryCall;
  StreamProcess(
    task: Partial<TaskRequest>,
    metadata: Metadata,
    options: CallOptions,
  ): ClientReadableStream<TaskChunk>;
  HealthCheck(
    request: object,
    metadata: Metadata,
    options: CallOptions,
    answer: Answer<HealthResponse>,
  ): ClientUnaryCall;
  close(): void;
}

const Client = makeClientConstructor(agentService, 'AgentService');

/**
 * A channel to an agent, or to the sidecar that knows the way to it.
 *
 * The reconnect back-off is short because the peer is on this host or one hop away: a sidecar that restarts
 * has to be found again at once, and back-off towards far endpoints is the sidecar's.
 *
 * @param address `host:port` or `unix:/path`
 * @param authority the name the sidecar routes by; the address if none is given
 */
export function connectAgent(address: string, authority?: string): AgentClient {
  const options: ChannelOptions = {
    ...messageLimits,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 2000,
    'grpc.enable_http_proxy': 0,
    ...(authority === undefined ? {} : { 'grpc.default_authority': authority }),
  };
  return new Client(address, credentials.createInsecure(), options) as unknown as AgentClient;
}
