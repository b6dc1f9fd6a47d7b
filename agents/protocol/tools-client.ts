/** The client of outrigger.tools.v1.ToolRunner. */
import { credentials, makeClientConstructor } from '@grpc/grpc-js';
import { channelOptions, type UnaryMethod } from './agent-client.ts';
import { messageLimits, toolsService } from './definitions.ts';
import type { ToolCallRequest, ToolList, ToolResult } from './tool-messages.ts';

export interface ToolsClient {
  List: UnaryMethod<object, ToolList>;
  Run: UnaryMethod<ToolCallRequest, ToolResult>;
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
