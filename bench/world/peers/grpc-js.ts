// A pass-through on grpc-js with serializers that do nothing: `node bench/world/peers/grpc-js.ts PORT UPSTREAM_PORT`. No policies,
// no metrics; what one would write with the library that agents use.
import {
  Client,
  credentials,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type Metadata,
  Server,
  ServerCredentials,
} from '@grpc/grpc-js';
import { paths } from '../../traffic/answers.ts';

const [port, upstreamPort] = process.argv.slice(2).map(Number);
const identity = (bytes: Buffer): Buffer => bytes;
const options = { 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 };

const client = new Client(`127.0.0.1:${upstreamPort}`, credentials.createInsecure(), options);
const server = new Server({ ...options, 'grpc.max_concurrent_streams': 1_000 });

/** The client adds its own. */
function passed(metadata: Metadata): Metadata {
  const copy = metadata.clone();
  copy.remove('user-agent');
  return copy;
}

for (const path of [paths.small, paths.large]) {
  const unary: handleUnaryCall<Buffer, Buffer> = (call, callback) => {
    const attempt = client.makeUnaryRequest(
      path,
      identity,
      identity,
      call.request,
      passed(call.metadata),
      (error, answer) => callback(error, answer),
    );
    attempt.on('metadata', (metadata) => call.sendMetadata(metadata));
    call.on('cancelled', () => attempt.cancel());
  };
  server.register(path, unary, identity, identity, 'unary');
}

const stream: handleServerStreamingCall<Buffer, Buffer> = (call) => {
  const attempt = client.makeServerStreamRequest(
    paths.stream,
    identity,
    identity,
    call.request,
    passed(call.metadata),
  );
  attempt.on('metadata', (metadata) => call.sendMetadata(metadata));
  attempt.on('error', (error) => call.destroy(error));
  attempt.on('data', (chunk: Buffer) => {
    if (!call.write(chunk)) {
      attempt.pause();
      call.once('drain', () => attempt.resume());
    }
  });
  attempt.on('end', () => call.end());
  call.on('cancelled', () => attempt.cancel());
};
server.register(paths.stream, stream, identity, identity, 'serverStream');

server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error;
});
