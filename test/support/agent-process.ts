// A plain gRPC agent as a process of its own, to be stopped and killed: node agent-process.ts PORT [health]
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

const echo: grpc.handleUnaryCall<Buffer, Buffer> = (call, callback) => callback(null, call.request);
/** HealthCheckResponse with SERVING. */
const serving: grpc.handleUnaryCall<Buffer, Buffer> = (_call, callback) =>
  callback(null, Buffer.from([8, 1]));

const [, , port, health] = process.argv;
const server = new grpc.Server();
server.addService(
  { unary: unary('/test.Raw/Unary'), hold: unary('/test.Raw/Hold') },
  // A call that is held gets no answer.
  { unary: echo, hold: () => {} },
);
if (health !== undefined)
  server.addService({ check: unary('/grpc.health.v1.Health/Check') }, { check: serving });
server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error;
  process.stdout.write('listening\n');
});
