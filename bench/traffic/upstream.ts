// The upstream of the bench, a process of one core: `node bench/traffic/upstream.ts PORT [CERT KEY CA]`. With certificates
// it speaks TLS and asks for its caller's.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { UpstreamConnection } from './upstream-connection.ts';

const [port, cert, key, ca] = process.argv.slice(2);

const server =
  cert === undefined
    ? createServer({ noDelay: true })
    : createTlsServer({
        cert: readFileSync(cert),
        key: readFileSync(key!),
        ca: readFileSync(ca!),
        requestCert: true,
        rejectUnauthorized: true,
        minVersion: 'TLSv1.3',
        ALPNProtocols: ['h2'],
        noDelay: true,
      });
server.on(cert === undefined ? 'connection' : 'secureConnection', (socket) => {
  if (socket.remoteAddress?.startsWith('127.') !== true) {
    socket.destroy();
    return;
  }
  // A caller that goes away takes its calls along.
  socket.on('error', () => socket.destroy());
  new UpstreamConnection(socket);
});
// So that it has every address of 127/8, and a thousand endpoints need one process; others are turned away above.
server.listen({ port: Number(port), host: '0.0.0.0', backlog: 4096 });
