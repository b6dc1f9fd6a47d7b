// The same agent as python/opentelemetry_agent.py, on grpc-js.
import { createRequire } from 'node:module';
import type * as Grpc from '@grpc/grpc-js';
import { GrpcInstrumentation } from '@opentelemetry/instrumentation-grpc';
import { NodeSDK } from '@opentelemetry/sdk-node';

const TASKS = 3;
const METHOD = '/agent.AgentService/ProcessTask';

// The default exporter would only complain that nobody is there.
const done = async (): Promise<void> => {};
const spanProcessors = [{ onStart() {}, onEnd() {}, forceFlush: done, shutdown: done }];
new NodeSDK({ spanProcessors, instrumentations: [new GrpcInstrumentation()] }).start();
// What is loaded from here on is instrumented.
const grpc: typeof Grpc = createRequire(import.meta.url)('@grpc/grpc-js');

const identity = (bytes: Buffer): Buffer => bytes;
const client = new grpc.Client(process.argv[2]!, grpc.credentials.createInsecure(), {
  'grpc.default_authority': 'leaf',
});
const waiting: (() => void)[] = [];
let ids = 0;

function stringField(number: number, text: string): Buffer {
  return Buffer.concat([Buffer.from([number * 8 + 2, text.length]), Buffer.from(text)]);
}

async function processTask(
  { request }: Grpc.ServerUnaryCall<Buffer, Buffer>,
  callback: Grpc.sendUnaryData<Buffer>,
): Promise<void> {
  await new Promise<void>((resolve) => {
    waiting.push(resolve);
    if (waiting.length === TASKS) for (const go of waiting.splice(0)) go();
  });
  const caller = /caller-.*$/.exec(request.toString())![0];
  const subtask = Buffer.concat([stringField(1, `own ${ids++}`), stringField(4, caller)]);
  client.makeUnaryRequest(METHOD, identity, identity, subtask, callback);
}

const server = new grpc.Server();
server.addService(
  {
    processTask: {
      path: METHOD,
      requestStream: false,
      responseStream: false,
      requestSerialize: identity,
      requestDeserialize: identity,
      responseSerialize: identity,
      responseDeserialize: identity,
    },
  },
  { processTask },
);
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error;
  console.log(port);
});
