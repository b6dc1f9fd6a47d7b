// Scenarios of replicas that answer badly or late.

import type { Behaviour } from './behaviour.ts';
import type { MeshOptions } from './mesh.ts';
import { latencyNote, type Measured, oneFault, type Scenario } from './one-fault.ts';
import type { Bar } from './row.ts';

/** Attempts at a failing replica: three until its ejection, those beside them, and one or two at each return. */
const REACHED_LIMIT = 20;

const noticed = ({ reached }: Measured): Bar[] => [
  {
    bar: `at most ${REACHED_LIMIT} attempts at a failing replica (${reached})`,
    holds: reached <= REACHED_LIMIT,
    measured: true,
  },
];

const told = (name: string, behaviour: Partial<Behaviour>, mesh: MeshOptions = {}): Scenario =>
  oneFault({
    name,
    fault: async (pod) => {
      await pod.behave(behaviour);
      return () => pod.behave({ fault: 'none', slowdown: 1, flapMs: 0 });
    },
    mesh,
    bars: noticed,
    note: (measured) => {
      const failed = measured.records.filter(({ taskStatus }) => taskStatus === 'FAILED').length;
      return [failed === 0 ? '' : `${failed} answers FAILED`, latencyNote(measured)]
        .filter((text) => text !== '')
        .join('; ');
    },
  });

export const answerScenarios: readonly Scenario[] = [
  told('streams and tasks reset midway', { fault: 'reset' }),
  told('FAILED with status OK', { fault: 'failed_status' }),
  told('errors in trailers only', { fault: 'trailers' }),
  told('errors in Trailers-Only responses', { fault: 'trailers_only' }),
  told(
    'errors in Trailers-Only responses, round robin',
    { fault: 'trailers_only' },
    { settings: { balancer: 'round_robin' } },
  ),
  told('20 times slower', { slowdown: 20 }),
  told('flapping: 300 ms bad, 300 ms good', { fault: 'trailers_only', flapMs: 300 }),
];
