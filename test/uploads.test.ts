// A request larger than every window on its way arrives whole, also when it begins before a connection is there.
import t from 'tap';
import { oneCluster, startDataPlane } from './support/data-plane.ts';
import { RawClient, rawPaths, startRawServer } from './support/raw-grpc.ts';

t.test(
  'uploads larger than the windows never stall, the first one on a new connection neither',
  async (t) => {
    const server = await startRawServer(t, {
      unary: (call, callback) => callback(null, Buffer.from(String(call.request.length))),
    });
    for (let round = 0; round < 5; round++) {
      const inner = await startDataPlane(t, { inbound: { app: server.address } });
      const outer = await startDataPlane(t, oneCluster([`127.0.0.1:${inner.inboundPort}`]));
      const client = new RawClient(t, outer.outboundPort);
      for (const mebibytes of [9, 1, 5]) {
        const request = Buffer.alloc(mebibytes << 20, round);
        const outcome = await client.unary(request, { path: rawPaths.unary, deadline: Date.now() + 30_000 });
        t.equal(outcome.code, 0, `${mebibytes} MiB, round ${round}: ${outcome.details}`);
        t.equal(outcome.response?.toString(), String(request.length));
      }
    }
  },
);
