// Why a bar is not reached, by its name: what the profile shows and what was tried. Printed beside bars that do not hold.
const FEW_CALLS =
  'at this rate hardly two calls come together, so each has two reads, two writes and some two looks at epoll to itself, ' +
  'as in HAProxy (`strace -c`), and that is half of its time (`perf`). The rest is the way from libuv to JavaScript and ' +
  'back, in caches that went cold in between. There is no system call left to spare; one of the looks is Node’s own, for ' +
  'its measure of idle time.';

const LARGE =
  'CPU time a message is even with Envoy’s when the two are compared alone, and nearly all of it is the kernel’s copying ' +
  'in `write`. The sidecar waits longer for its neighbours: it has 0.82 of its core where Envoy has 0.93. Windows four times as ' +
  'large changed nothing. Envoy hands on the memory it has read into; here each payload is copied once between two sockets.';

export const reasons: Readonly<Record<string, string>> = {
  'calls a second, 64 x 1':
    'writing takes 40 % of the time: each answer goes to a connection of its own. The listeners differ by what the ' +
    'inbound one does to find a task again, and by its owner’s index.',
  'CPU time a call at 1,500/s': FEW_CALLS,
  'added p50 at 1,000/s': FEW_CALLS,
  'answers of 1 MiB': LARGE,
  'requests of 1 MiB': LARGE,
  'idle memory':
    'what is resident is mostly Node’s own program, mapped from its file. With ' +
    'nothing connected it is 63 MiB (`node bench/single/ready.ts`), as Envoy’s; the first connections and calls add the rest.',
  'cost of a call at 1,000 endpoints':
    'calls that come together share a write when they go to one endpoint, and do not when they go to several: the step is ' +
    'from 1 to 10. HAProxy, measured beside it, grows as much. Calls are drawn from as many endpoints as they need, 32 at ' +
    'least, and not from all thousand (`docs/decisions/0006-memory-of-calls.md`).',
  'slope of memory in the long run':
    'resident memory grows by some 2 bytes a call, of what is dead: V8 moves a little of what it meets in use to its old ' +
    'generation, and looks there when some MiB have gathered, which takes longer than ten minutes at this rate. Made to ' +
    'collect after each part of a load at full speed (`node bench/single/live-memory.ts`), it has 0.5 MiB more after 2.6 to ' +
    '5.1 million calls than before, half of it after the first part and less with each: compiled code, as heap snapshots show.',
};
