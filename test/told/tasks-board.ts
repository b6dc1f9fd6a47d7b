// What is true of each query of the dashboard "Tasks and tokens".
import { labelOf, type ModelRequest, type ServedCall, type ToldTask } from './ledger.ts';
import { quantileOf } from './quantile.ts';
import { type Facts, groups, keyOf, shareOf, size, sum, type Truths, type Values } from './query-truth.ts';

const NO_LABELS = () => ({});

export const isUseless = ({ status }: ToldTask): boolean => ['FAILED', 'TIMEOUT', 'ERROR'].includes(status);
const tokensOf = (group: readonly ToldTask[]): number => sum(group, ({ tokens }) => tokens);
export const wastedShare = (group: readonly ToldTask[]): number =>
  tokensOf(group.filter(({ use }) => use === 'wasted')) / tokensOf(group);

export function tasksBoard({ service, ledger, kind, coolingS }: Facts): Truths {
  const { tasks, again, models } = ledger;
  const agent = () => ({ agent: service });
  const calls = ledger.served.filter(({ method }) => method.startsWith('/agent.AgentService/'));
  const byMethod = (call: ServedCall) => ({ service, rpc_method: labelOf(call) });
  const duration = (q: number): Values =>
    groups(calls, byMethod, (group) => quantileOf(q, group, kind === 'native' ? 'native' : 'calls'));
  const ofModel = ({ upstream, model }: ModelRequest) => ({ upstream, model });
  const slowest = (requests: readonly ModelRequest[]): Values =>
    groups(requests, ofModel, (group) => quantileOf(0.95, group, kind === 'native' ? 'native' : 'models'));
  const attempts = models.flatMap((request) => request.attempts.map((outcome) => ({ ...request, outcome })));
  return {
    'variable service': { per: 'end', of: { [keyOf({ service })]: 1 } },
    'Tasks A': { per: 'round', of: groups(tasks, NO_LABELS, size) },
    'Without a usable answer A': { per: 'end', of: groups(tasks, NO_LABELS, shareOf(isUseless)) },
    'Tokens A': { per: 'round', of: groups(tasks, NO_LABELS, tokensOf) },
    'Wasted tokens A': { per: 'end', of: groups(tasks, NO_LABELS, wastedShare) },
    'Tasks by agent and status A': {
      per: 'second',
      of: groups(tasks, ({ status }) => ({ ...agent(), status }), size),
    },
    'Share without a usable answer A': { per: 'end', of: groups(tasks, agent, shareOf(isUseless)) },
    'Duration A': { per: 'end', of: duration(0.5) },
    'Duration B': { per: 'end', of: duration(0.95) },
    'Calls of tasks by status A': {
      per: 'second',
      of: groups(calls, (call) => ({ ...byMethod(call), rpc_status_code: call.code }), size),
    },
    'Tasks that arrived again A': {
      per: 'second',
      of: groups(again, ({ outcome }) => ({ service, outcome }), size),
    },
    'Tokens a second by use A': {
      per: 'second',
      of: groups(tasks, ({ use }) => ({ ...agent(), use }), tokensOf),
    },
    'Wasted share by agent A': { per: 'end', of: groups(tasks, agent, wastedShare) },
    'Tokens a task A': { per: 'end', of: groups(tasks, agent, (group) => tokensOf(group) / group.length) },
    'Tokens by agent and use A': {
      per: 'round',
      of: groups(tasks, ({ use }) => ({ ...agent(), use }), tokensOf),
    },
    'Requests to providers by outcome A': {
      per: 'second',
      of: groups(models, (request) => ({ ...ofModel(request), outcome: request.outcome }), size),
    },
    'Tokens by provider, model and type A': { per: 'second', of: tokensByType(models) },
    'Cost by provider and model A': { per: 'second', of: groups(models, ofModel, () => 0) },
    'Duration of requests A': { per: 'end', of: slowest(models) },
    'Duration of requests B': { per: 'end', of: slowest(models.filter(({ begun }) => begun > 0)) },
    'Attempts and retries A': {
      per: 'second',
      of: groups(attempts, ({ upstream, outcome }) => ({ upstream, outcome }), size),
    },
    'Attempts and retries B': {
      per: 'second',
      of: groups(
        models,
        ({ upstream }) => ({ upstream }),
        (group) => sum(group, (request) => Math.max(0, request.attempts.length - 1)),
      ),
    },
    'Circuits of providers A': { per: 'end', of: {} },
    'Waiting for quota A': { per: 'held', of: service === 'research' ? { [keyOf({ service })]: 1 } : {} },
    // There is a bus, and nobody submits a task.
    'Tasks that wait A': { per: 'end', of: {} },
    'Tasks that wait B': { per: 'end', of: {} },
    'The oldest waits for A': { per: 'end', of: {} },
    'Tasks of the bus by outcome A': { per: 'second', of: {} },
    // No journal is on.
    'Answers by outcome A': { per: 'second', of: {} },
    'Hit rate A': { per: 'end', of: {} },
    'Dead letters A': { per: 'end', of: {} },
    // No tool server is configured.
    'Calls by tool and outcome A': { per: 'second', of: {} },
    'Duration of requests, p95 A': { per: 'end', of: {} },
    'Unknown outcomes A': { per: 'round', of: {} },
    'Refused calls A': { per: 'second', of: {} },
    'Requests sent again A': { per: 'second', of: {} },
    'Circuits and streams A': { per: 'end', of: {} },
    'Circuits and streams B': { per: 'end', of: {} },
    'Reached A': { per: 'end', of: { [keyOf({ service })]: 1 } },
    'Waiting for quota B': { per: 'held', of: service === 'research' ? { 'upstream=openai': coolingS } : {} },
  };
}

function tokensByType(models: readonly ModelRequest[]): Values {
  const of = (type: string, truthOf: Parameters<typeof groups<ModelRequest>>[2]): Values =>
    groups(models, ({ upstream, model }) => ({ upstream, model, type }), truthOf);
  return {
    ...of('input', (group) => sum(group, ({ input }) => input)),
    ...of('output', (group) => sum(group, ({ output }) => output)),
    ...of('wasted', (group) => {
      const some = group.filter(({ wastes }) => wastes).length;
      return some === 0 ? 0 : [some, Number.MAX_SAFE_INTEGER];
    }),
  };
}
