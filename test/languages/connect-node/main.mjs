// connect-node with gRPC's protocol, in either role: main.mjs client|server PORT.
const [role, port] = process.argv.slice(2);
if (role === 'client') (await import('./client.mjs')).runClient(port);
else (await import('./server.mjs')).runServer(Number(port));
