// Loaded into a process of ours by NODE_OPTIONS=--import: SIGUSR2 makes happen what FAULT names, as a defect would.
import net from 'node:net';

const servers = [];
const { listen } = net.Server.prototype;
net.Server.prototype.listen = function (...args) {
  servers.push(this);
  return listen.apply(this, args);
};

const serverOn = (port) => servers.find((server) => server.address()?.port === port);

const faults = {
  throw: () => {
    throw new Error('a fault that was thrown');
  },
  'throw nothing': () => {
    throw undefined;
  },
  reject: () => void Promise.reject(new Error('a fault that was rejected')),
  'throw at the end': () =>
    void process.on('exit', () => {
      throw new Error('a fault of a module at the end');
    }),
  // More than any machine has.
  allocate: () => void new ArrayBuffer(2 ** 52),
  heap: () => {
    const held = [];
    for (;;) held.push(Array.from({ length: 10_000 }, (_, index) => ({ index })));
  },
  close: () => void serverOn(Number(process.env.FAULT_PORT)).close(),
  accept: () =>
    void serverOn(Number(process.env.FAULT_PORT)).emit(
      'error',
      Object.assign(new Error('accept ENOBUFS'), { code: 'ENOBUFS' }),
    ),
};

process.on('SIGUSR2', () => faults[process.env.FAULT]());
