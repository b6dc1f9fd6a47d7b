// grpc.testing.TestService with grpc-js: the definition, and the server's end.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { Test } from 'tap';

export interface Payload {
  type: number;
  body: Buffer;
}

interface SimpleRequest {
  response_size: number;
  payload: Payload | null;
  response_status: { code: number; message: string } | null;
}

interface StreamingOutputCallRequest {
  response_parameters: { size: number; interval_us: number }[];
  payload: Payload | null;
  response_status: { code: number; message: string } | null;
}

const loaded = grpc.loadPackageDefinition(
  loadSync(join(import.meta.dirname, 'proto', 'interop.proto'), { keepCase: true, defaults: true }),
) as unknown as {
  grpc: { testing: Record<'TestService' | 'UnimplementedService', grpc.ServiceClientConstructor> };
};

export const TestService = loaded.grpc.testing.TestService;
export const UnimplementedService = loaded.grpc.testing.UnimplementedService;

/** Metadata that the server sends back: the first in the headers, the second in the trailers. */
export const echoInitial = 'x-grpc-test-echo-initial';
export const echoTrailing = 'x-grpc-test-echo-trailing-bin';

export function payload(size: number): Payload {
  return { type: 0, body: Buffer.alloc(size) };
}

function echo(metadata: grpc.Metadata): { headers: grpc.Metadata | undefined; trailers: grpc.Metadata } {
  const headers = new grpc.Metadata();
  const trailers = new grpc.Metadata();
  for (const value of metadata.get(echoInitial)) headers.add(echoInitial, value);
  for (const value of metadata.get(echoTrailing)) trailers.add(echoTrailing, value);
  return { headers: metadata.get(echoInitial).length > 0 ? headers : undefined, trailers };
}

const emptyCall: grpc.handleUnaryCall<unknown, unknown> = (call, callback) => {
  const { headers, trailers } = echo(call.metadata);
  if (headers !== undefined) call.sendMetadata(headers);
  callback(null, {}, trailers);
};

const unaryCall: grpc.handleUnaryCall<SimpleRequest, unknown> = (call, callback) => {
  const { headers, trailers } = echo(call.metadata);
  if (headers !== undefined) call.sendMetadata(headers);
  const status = call.request.response_status;
  if (status !== null && status.code !== 0) {
    callback({ code: status.code, details: status.message, metadata: trailers });
  } else {
    callback(null, { payload: payload(call.request.response_size) }, trailers);
  }
};

const streamingInputCall: grpc.handleClientStreamingCall<{ payload: Payload | null }, unknown> = (
  call,
  callback,
) => {
  let size = 0;
  call.on('data', (request: { payload: Payload | null }) => {
    size += request.payload?.body.length ?? 0;
  });
  call.on('end', () => callback(null, { aggregated_payload_size: size }));
};

type OutputStream = Pick<grpc.ServerWritableStream<unknown, unknown>, 'write' | 'cancelled'>;

async function sendResponses(call: OutputStream, request: StreamingOutputCallRequest): Promise<void> {
  for (const { size, interval_us: intervalUs } of request.response_parameters) {
    if (intervalUs > 0) await sleep(intervalUs / 1_000);
    if (call.cancelled) return;
    call.write({ payload: payload(size) });
  }
}

const streamingOutputCall: grpc.handleServerStreamingCall<StreamingOutputCallRequest, unknown> = async (
  call,
) => {
  await sendResponses(call, call.request);
  call.end();
};

const fullDuplexCall: grpc.handleBidiStreamingCall<StreamingOutputCallRequest, unknown> = (call) => {
  const { headers, trailers } = echo(call.metadata);
  if (headers !== undefined) call.sendMetadata(headers);
  let last = Promise.resolve();
  let ended = false;
  call.on('data', (request: StreamingOutputCallRequest) => {
    last = last.then(async () => {
      if (ended) return;
      const status = request.response_status;
      if (status !== null && status.code !== 0) {
        ended = true;
        call.emit('error', { code: status.code, details: status.message, metadata: trailers });
        return;
      }
      await sendResponses(call, request);
    });
  });
  call.on('end', () => {
    last = last.then(() => {
      if (!ended) call.end(trailers);
    });
  });
};

/** Starts the server on a port of the kernel's choice; it ends with the test. */
export async function startInteropServer(t: Pick<Test, 'teardown'>): Promise<number> {
  const server = new grpc.Server();
  // UnimplementedCall is left out on purpose: grpc-js answers it with UNIMPLEMENTED.
  server.addService(TestService.service, {
    EmptyCall: emptyCall,
    UnaryCall: unaryCall,
    StreamingInputCall: streamingInputCall,
    StreamingOutputCall: streamingOutputCall,
    FullDuplexCall: fullDuplexCall,
  } as unknown as grpc.UntypedServiceImplementation);
  t.teardown(() => server.forceShutdown());
  return await new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(port) : reject(error),
    );
  });
}
