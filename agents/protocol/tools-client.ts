/** The client of outrigger.tools.v1.ToolRunner. */
import {
  type ClientUnaryCall,
  credentials,
  type Metadata,
  makeClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js';
import { type CallOptions, channelOptions } from './agent-client.ts';
import { messageLimits, toolsService } from './definitions.ts';
import type { ToolCallRequest, ToolList, ToolResult } from './tool-messages.ts';

type Unary<Request, Answer> = (
  request: Request,
  metadata: Metadata,
  options: CallOptions,
  answer: (error: ServiceError | null, value?: Answer) => void,
) => ClientUnaryCall;

export interface ToolsClient {
  List: Unary<object, ToolList>;
  Run: Unary<ToolCallRequest, ToolResult>;
  close(): void;
}

const Client = makeClientConstructor(toolsService, 'ToolRunner');

/**
 * Opens a channel to a tool runner, or to the sidecar that routes to it.
 *
 * @param authority the name by which the sidecar routes
 */
export function connectTools(address: string, authority: string): ToolsClient {
  const options = { ...messageLimits, ...channelOptions, 'grpc.default_authority': authority };
  return new Client(address, credentials.createInsecure(), options) as unknown as ToolsClient;
}
