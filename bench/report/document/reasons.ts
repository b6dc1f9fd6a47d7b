// Why the sidecar misses a target, by the target's name: what the profile shows and what we tried.
const FEW_CALLS =
  'at this rate hardly two calls arrive together, so each needs its own two reads, two writes and some two calls of ' +
  'epoll, as in HAProxy (`strace -c`), which take half of its time (`perf`). The path from libuv to JavaScript and back, ' +
  'with cold caches, takes the rest. We can remove no further system call; Node makes one of the epoll calls itself, to ' +
  'measure idle time.';

const LARGE =
  'compared alone, the sidecar needs the same CPU time for a message as Envoy, nearly all of it for the kernel’s copying ' +
  'in `write`. The sidecar waits longer for its neighbours: it gets 0.82 of its core where Envoy gets 0.93. Windows four ' +
  'times as large changed nothing. Envoy forwards the memory that it has read into; the sidecar copies each payload once.';

export const reasons: Readonly<Record<string, string>> = {
  'calls a second, 64 x 1':
    'writing takes 40 % of the time, because each answer goes to a different connection. The inbound listener also ' +
    'de-duplicates tasks and keeps an index of owners, which the outbound one does not.',
  'CPU time a call at 1,500/s': FEW_CALLS,
  'added p50 at 1,000/s': FEW_CALLS,
  'answers of 1 MiB': LARGE,
  'requests of 1 MiB': LARGE,
  'idle memory':
    'most of the resident memory is Node’s own program, mapped from its file. Without a connection it is 63 MiB ' +
    '(`node bench/single/ready.ts`), as with Envoy; the first connections and calls add the rest.',
  'cost of a call at 1,000 endpoints':
    'simultaneous calls to one endpoint share a write, and calls to several endpoints do not: the step is from 1 to 10. ' +
    'HAProxy, measured beside it, grows as much. The balancer draws from as many endpoints as the calls need, at least 32, ' +
    'and not from all thousand (`docs/decisions/0006-memory-of-calls.md`).',
  'slope of memory in the long run':
    'resident memory grows by some 2 bytes a call, all of it garbage: V8 moves a few objects that are in use to its old ' +
    'generation, and collects there once some MiB have gathered, which takes longer than ten minutes at this rate. With a ' +
    'forced collection after each part of a load at full speed (`node bench/single/live-memory.ts`), memory grows by 0.5 ' +
    'MiB over 2.6 to 5.1 million calls, half of it in the first part and less in each later one: compiled code, as heap ' +
    'snapshots show.',
};
