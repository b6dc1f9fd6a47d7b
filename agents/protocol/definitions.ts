/** Loads the definitions of proto/. */
import { fileURLToPath } from 'node:url';
import type { ServiceDefinition } from '@grpc/grpc-js';
import { loadSync, type PackageDefinition } from '@grpc/proto-loader';

const protoFolder = fileURLToPath(new URL('../../proto/', import.meta.url));

/** Every message and service of proto/, as proto-loader returns them. */
export const packageDefinition: PackageDefinition = loadSync(
  [
    'agent_service.proto',
    'health.proto',
    'reflection.proto',
    'outrigger_tasks.proto',
    'outrigger_tools.proto',
  ],
  { includeDirs: [protoFolder], keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true },
);

function service(name: string): ServiceDefinition {
  return packageDefinition[name] as ServiceDefinition;
}

export const agentService = service('agent.AgentService');
export const healthService = service('grpc.health.v1.Health');
/** Sidecars serve it. */
export const tasksServiceName = 'outrigger.v1.Tasks';
export const tasksService = service(tasksServiceName);
/** The tool runner serves it. */
export const toolsServiceName = 'outrigger.tools.v1.ToolRunner';
export const toolsService = service(toolsServiceName);
export const reflectionService = service('grpc.reflection.v1.ServerReflection');

/** The longest message that an agent or its caller sends or accepts (contract: max_message_bytes). */
export const maxMessageBytes = 10 * 1024 * 1024;

/** Channel and server options for both ends. */
export const messageLimits = {
  'grpc.max_receive_message_length': maxMessageBytes,
  'grpc.max_send_message_length': maxMessageBytes,
};
