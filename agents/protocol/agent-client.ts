/** The client of agent.AgentService. */
import {
  type ChannelOptions,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  type Interceptor,
  type Metadata,
  makeClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js';
import { agentService, messageLimits } from './definitions.ts';
import type { HealthResponse, TaskChunk, TaskRequest, TaskResponse } from './messages.ts';

export interface CallOptions {
  deadline?: Date | number;
  interceptors?: Interceptor[];
}

type Answer<T> = (error: ServiceError | null, value?: T) => void;

/** A unary method of a client. */
export type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: CallOptions,
  answer: Answer<Response>,
) => ClientUnaryCall;

/** A client of agent.AgentService over one channel. Omitted fields of a request get proto3's default values. */
export interface AgentClient {
  ProcessTask: UnaryMethod<Partial<TaskRequest>, TaskResponse>;
  StreamProcess(
    task: Partial<TaskRequest>,
    metadata: Metadata,
    options: CallOptions,
  ): ClientReadableStream<TaskChunk>;
  HealthCheck: UnaryMethod<object, HealthResponse>;
  close(): void;
}

const Client = makeClientConstructor(agentService, 'AgentService');

/**
 * The reconnect back-off is short because the peer is on this host or one hop away: the channel has to find a restarted
 * sidecar at once, and the sidecar does the back-off towards far endpoints.
 */
export const channelOptions: ChannelOptions = {
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2000,
  'grpc.enable_http_proxy': 0,
};

/**
 * Opens a channel to an agent, or to the sidecar that routes to it.
 *
 * @param address `host:port` or `unix:/path`
 * @param authority the name by which the sidecar routes; the address by default
 */
export function connectAgent(address: string, authority?: string): AgentClient {
  const options: ChannelOptions = {
    ...messageLimits,
    ...channelOptions,
    ...(authority === undefined ? {} : { 'grpc.default_authority': authority }),
  };
  return new Client(address, credentials.createInsecure(), options) as unknown as AgentClient;
}
