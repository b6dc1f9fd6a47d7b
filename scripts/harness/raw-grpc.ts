// grpc-js peers that carry bytes: a server with all four kinds of call, and a client for any path.
import * as grpc from '@grpc/grpc-js';
import type { Test } from 'tap';

const identity = (bytes: Buffer): Buffer => bytes;

function definition(path: string, requestStream: boolean, responseStream: boolean) {
  return {
    path,
    requestStream,
    responseStream,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  };
}

export interface RawHandlers {
  unary?: grpc.handleUnaryCall<Buffer, Buffer>;
  clientStream?: grpc.handleClientStreamingCall<Buffer, Buffer>;
  serverStream?: grpc.handleServerStreamingCall<Buffer, Buffer>;
  bidi?: grpc.handleBidiStreamingCall<Buffer, Buffer>;
}

/** The paths of the four methods. */
export const rawPaths = {
  unary: '/test.Raw/Unary',
  clientStream: '/test.Raw/ClientStream',
  serverStream: '/test.Raw/ServerStream',
  bidi: '/test.Raw/Bidi',
} as const;

/** Defaults for missing handlers: unary and bidi echo, clientStream joins, serverStream sends the request three times. */
const defaults: Required<RawHandlers> = {
  unary: (call, callback) => callback(null, call.request),
  clientStream: (call, callback) => {
    const parts: Buffer[] = [];
    call.on('data', (part: Buffer) => parts.push(part));
    call.on('end', () => callback(null, Buffer.concat(parts)));
  },
  serverStream: (call) => {
    for (let count = 0; count < 3; count += 1) call.write(call.request);
    call.end();
  },
  bidi: (call) => {
    call.on('data', (message: Buffer) => call.write(message));
    call.on('end', () => call.end());
  },
};

export interface RawServer {
  readonly port: number;
  readonly address: string;
  readonly server: grpc.Server;
}

/** A grpc-js server on a port that the kernel chooses; it shuts down with the test. */
export async function startRawServer(
  t: Pick<Test, 'teardown'>,
  handlers: RawHandlers = {},
  options: grpc.ServerOptions & { port?: number; unaryPath?: string; serverStreamPath?: string } = {},
): Promise<RawServer> {
  const {
    port: wantedPort = 0,
    unaryPath = rawPaths.unary,
    serverStreamPath = rawPaths.serverStream,
    ...serverOptions
  } = options;
  const server = new grpc.Server({ 'grpc.max_receive_message_length': -1, ...serverOptions });
  const all = { ...defaults, ...handlers };
  server.addService(
    {
      unary: definition(unaryPath, false, false),
      clientStream: definition(rawPaths.clientStream, true, false),
      serverStream: definition(serverStreamPath, false, true),
      bidi: definition(rawPaths.bidi, true, true),
    },
    all as unknown as grpc.UntypedServiceImplementation,
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${wantedPort}`, grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  t.teardown(() => server.forceShutdown());
  return { port, address: `127.0.0.1:${port}`, server };
}

export interface UnaryOutcome {
  code: grpc.status;
  details: string;
  response: Buffer | undefined;
  headers: grpc.Metadata | undefined;
  trailers: grpc.Metadata;
}

export class RawClient {
  readonly client: grpc.Client;

  constructor(
    t: Pick<Test, 'teardown'>,
    port: number,
    options: grpc.ClientOptions = {},
    channel = grpc.credentials.createInsecure(),
  ) {
    this.client = new grpc.Client(`127.0.0.1:${port}`, channel, {
      'grpc.max_receive_message_length': -1,
      // Channels with equal options share connections, and tests must not use each other's.
      'grpc.use_local_subchannel_pool': 1,
      ...options,
    });
    t.teardown(() => this.client.close());
  }

  /** Never rejects: an error is an outcome with its code. */
  unary(
    request: Buffer,
    { path = rawPaths.unary as string, metadata = new grpc.Metadata(), ...options }: RawCallOptions = {},
  ): Promise<UnaryOutcome> {
    return new Promise((resolve) => {
      let headers: grpc.Metadata | undefined;
      let response: Buffer | undefined;
      const call = this.client.makeUnaryRequest(
        path,
        identity,
        identity,
        request,
        metadata,
        options,
        (_, value) => {
          response = value;
        },
      );
      call.on('metadata', (received) => {
        headers = received;
      });
      call.on('status', ({ code, details, metadata: trailers }) => {
        // The callback follows the status event.
        setImmediate(() => resolve({ code, details, response, headers, trailers }));
      });
    });
  }

  clientStream(
    callback: grpc.requestCallback<Buffer>,
    options: RawCallOptions = {},
  ): grpc.ClientWritableStream<Buffer> {
    const { path = rawPaths.clientStream, metadata = new grpc.Metadata(), ...rest } = options;
    return this.client.makeClientStreamRequest(path, identity, identity, metadata, rest, callback);
  }

  serverStream(request: Buffer, options: RawCallOptions = {}): grpc.ClientReadableStream<Buffer> {
    const { path = rawPaths.serverStream, metadata = new grpc.Metadata(), ...rest } = options;
    return this.client.makeServerStreamRequest(path, identity, identity, request, metadata, rest);
  }

  bidi(options: RawCallOptions = {}): grpc.ClientDuplexStream<Buffer, Buffer> {
    const { path = rawPaths.bidi, metadata = new grpc.Metadata(), ...rest } = options;
    return this.client.makeBidiStreamRequest(path, identity, identity, metadata, rest);
  }
}

export interface RawCallOptions extends grpc.CallOptions {
  path?: string;
  metadata?: grpc.Metadata;
}
