// Scenarios of replicas that die or stop answering.
import { openBlackHole } from './black-hole.ts';
import { grayBars, latencyNote, type OneFault, oneFault, type Scenario } from './one-fault.ts';

/** Longer than a call's deadline, so that a proxy which learns only from its timeouts can learn. */
const SILENCE_MS = 4_000;

const signal = (name: NodeJS.Signals, ...processes: { kill(name: NodeJS.Signals): void }[]): void => {
  for (const process of processes) process.kill(name);
};

const ROUND_ROBIN = { settings: { balancer: 'round_robin' } } as const;

const killed: OneFault = {
  name: 'kill -9 of a replica',
  fault: async (pod) => {
    await pod.killApp();
    return () => pod.startApp();
  },
};

const stopped: OneFault = {
  name: 'SIGSTOP of a replica',
  faultMs: SILENCE_MS,
  fault: async ({ app }) => {
    signal('SIGSTOP', app);
    return async () => signal('SIGCONT', app);
  },
  bars: grayBars,
  note: latencyNote,
};

export const silenceScenarios: readonly Scenario[] = [
  oneFault(killed),
  oneFault({ ...killed, name: `${killed.name}, round robin`, mesh: ROUND_ROBIN }),
  oneFault(stopped),
  oneFault({ ...stopped, name: `${stopped.name}, round robin`, mesh: ROUND_ROBIN }),
  oneFault({
    name: 'SIGSTOP of a whole pod',
    faultMs: SILENCE_MS,
    fault: async ({ app, proxy }) => {
      signal('SIGSTOP', app, proxy.process);
      return async () => signal('SIGCONT', proxy.process, app);
    },
    bars: grayBars,
    note: latencyNote,
  }),
  oneFault({
    name: 'black hole: accepts, never answers',
    faultMs: SILENCE_MS,
    fault: async (pod, { owner }) => {
      await pod.kill();
      const close = await openBlackHole(owner, pod.address);
      return async () => {
        await close();
        await pod.restart();
      };
    },
    bars: grayBars,
    note: latencyNote,
  }),
  oneFault({
    name: 'connection refused: kill -9 of a pod',
    fault: async (pod) => {
      await pod.kill();
      return () => pod.restart();
    },
  }),
];
