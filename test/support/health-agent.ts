// A gRPC agent as a process of its own whose health can be set: node health-agent.ts PORT KIND NAME. KIND is grpc
// (grpc.health.v1), agent (agent.AgentService/HealthCheck) or none. /test.Raw/Unary answers with NAME. The file
// NAME, when it is there, holds its health: serving (as without it), not_serving or unavailable.
import { readFileSync } from 'node:fs';
import * as grpc from '@grpc/grpc-js';

const identity = (bytes: Buffer): Buffer => bytes;
const unary = (path: string): grpc.MethodDefinition<Buffer, Buffer> => ({
  path,
  requestStream: false,
  responseStream: false,
  requestSerialize: identity,
  requestDeserialize: identity,
  responseSerialize: identity,
  responseDeserialize: identity,
});

const [, , port, kind = 'grpc', name = ''] = process.argv;

function health(): string {
  try {
    return readFileSync(name, 'utf8').trim();
  } catch {
    return 'serving';
  }
}

/** Field 1: 1 is SERVING, or healthy; 2 is NOT_SERVING, and 0 is not healthy. */
const check: grpc.handleUnaryCall<Buffer, Buffer> = (_call, callback) => {
  const state = health();
  if (state === 'unavailable') callback({ code: grpc.status.UNAVAILABLE, details: 'not now' });
  else callback(null, Buffer.from([8, state === 'serving' ? 1 : kind === 'agent' ? 0 : 2]));
};

const server = new grpc.Server();
const echo: grpc.handleUnaryCall<Buffer, Buffer> = (_call, callback) => callback(null, Buffer.from(name));
server.addService({ unary: unary('/test.Raw/Unary') }, { unary: echo });
if (kind === 'grpc') server.addService({ check: unary('/grpc.health.v1.Health/Check') }, { check });
if (kind === 'agent') server.addService({ check: unary('/agent.AgentService/HealthCheck') }, { check });
server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error;
  process.stdout.write('listening\n');
});
