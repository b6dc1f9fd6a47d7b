// One end of a call inside a network namespace: `peer.ts serve HOST:PORT NAME` answers every call with its name,
// `peer.ts call HOST:PORT AUTHORITY` makes one call and prints what came of it as JSON.
import * as grpc from '@grpc/grpc-js';

const [role, address = '', word = ''] = process.argv.slice(2);
const pass = (bytes: Buffer): Buffer => bytes;
const path = '/test.Peer/Ask';

if (role === 'serve') {
  const server = new grpc.Server();
  server.addService(
    {
      Ask: {
        path,
        requestStream: false,
        responseStream: false,
        requestSerialize: pass,
        requestDeserialize: pass,
        responseSerialize: pass,
        responseDeserialize: pass,
      },
    },
    {
      Ask: (call: grpc.ServerUnaryCall<Buffer, Buffer>, answer: grpc.sendUnaryData<Buffer>) =>
        answer(null, Buffer.from(`${word} asked from ${call.getPeer().replace(/:\d+$/, '')}`)),
    },
  );
  server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error) => {
    if (error !== null) throw error;
    console.log('listening');
  });
} else {
  const options = word === '' ? {} : { 'grpc.default_authority': word };
  const client = new grpc.Client(address, grpc.credentials.createInsecure(), options);
  const deadline = Date.now() + 10_000;
  client.makeUnaryRequest(path, pass, pass, Buffer.from('?'), { deadline }, (error, answer) => {
    const reason = String(error?.metadata.get('outrigger-reason')[0] ?? '');
    console.log(JSON.stringify({ code: error?.code ?? 0, reason, answer: answer?.toString() ?? '' }));
    client.close();
  });
}
