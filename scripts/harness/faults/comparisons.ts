// The six measurements that revealed the peers' defects. Each is a number, and lower is better.
import { status } from '@grpc/grpc-js';
import type { Behaviour } from './behaviour.ts';
import type { Fleet } from './mesh.ts';
import { busiest } from './one-fault.ts';
import type { Owner } from './proxy.ts';
import { attemptsAtLeaf, startChain } from './scenarios-chain.ts';

export interface Comparison {
  readonly name: string;
  /** Envoy's result; ours has to be better. */
  readonly peer: string;
  /** As in a bar: see `row.ts`. */
  readonly measured?: boolean;
  run(fleet: Fleet, owner: Owner): Promise<{ found: string; better: boolean }>;
}

const CALLS = 40;

/** Of forty sequential calls to two replicas, one of them bad: how many did the bad one get? */
function ofForty(
  name: string,
  streaming: boolean,
  behaviour: Partial<Behaviour>,
  peer: string,
  limit: number,
): Comparison {
  return {
    name,
    peer,
    measured: true,
    async run(fleet, owner) {
      const mesh = await fleet.mesh(owner, { pods: 2, behaviour: { serviceMs: 2, chunkEveryMs: 2 } });
      // The bad replica must be one that gets many calls, to differ from one that gets few anyway.
      for (let made = 0; made < 20; made++) await mesh.caller.call({ streaming }).ended;
      const bad = busiest(mesh);
      await bad.behave(behaviour);
      const from = bad.runs.length;
      for (let made = 0; made < CALLS; made++) await mesh.caller.call({ streaming }).ended;
      const reached = bad.runs.length - from;
      return { found: `${reached} of ${CALLS}`, better: reached < limit };
    },
  };
}

export const comparisons: readonly Comparison[] = [
  ofForty(
    'streams that reach a replica failing each in its trailers',
    true,
    { fault: 'trailers' },
    '24 of 40',
    20,
  ),
  ofForty(
    'tasks that reach a replica answering FAILED with OK',
    false,
    { fault: 'failed_status' },
    '20 of 40',
    16,
  ),
  ofForty('calls that reach a replica 100 times slower', false, { slowdown: 100 }, '20 of 40', 16),
  {
    name: 'attempts of one call at a dead leaf, three hops away',
    peer: '27',
    async run(fleet, owner) {
      const mesh = await startChain(fleet, owner);
      await mesh.pods[2]!.behave({ fault: 'trailers_only' });
      const attempts = await attemptsAtLeaf(mesh, () => mesh.caller.call().ended);
      return { found: `${attempts}`, better: attempts <= mesh.settings.maxAttempts };
    },
  },
  {
    name: "the status of the proxy's own timeout",
    peer: 'UNAVAILABLE',
    async run(fleet, owner) {
      const mesh = await fleet.mesh(owner, { pods: 1, settings: { timeoutMs: 300 } });
      await mesh.pods[0]!.behave({ fault: 'hang' });
      const { code } = await mesh.caller.call({ timeoutMs: 0 }).ended;
      return { found: status[code!], better: code === status.DEADLINE_EXCEEDED };
    },
  },
  {
    name: 'calls that reach a lone replica failing each',
    peer: '55 of 55',
    measured: true,
    async run(fleet, owner) {
      const mesh = await fleet.mesh(owner, { pods: 1 });
      const [alone] = mesh.pods;
      await alone!.behave({ fault: 'trailers_only', code: status.INTERNAL, serviceMs: 2 });
      const from = alone!.runs.length;
      for (let made = 0; made < 55; made++) await mesh.caller.call().ended;
      const reached = alone!.runs.length - from;
      return { found: `${reached} of 55`, better: reached < 28 };
    },
  },
];
