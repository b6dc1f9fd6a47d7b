/** Reads the head of a request: its operation, its task, its caller, and its budget. */
import { clientPatienceMs, clientRetryCount } from '../caller/client-patience.ts';
import type { DownstreamRequest } from '../caller/downstream.ts';
import type { Asked } from '../kinds/asked.ts';
import { operationOf, spendsUncounted, traitsOf } from '../kinds/operations.ts';
import { type TaskBudgets, taskKey } from '../limits/task-budgets.ts';
import { type HttpHeaders, textOf } from '../shared/headers.ts';
import type { Operation } from '../shared/operation.ts';
import type { OwnerCall, OwnerCalls } from '../shared/owner-call.ts';
import { plainHeaders, traceIdIn } from './incoming-head.ts';
import type { ModelRequest } from './model-request.ts';

/** The agent chooses ids: a longer one counts as none. */
export const MAX_ID_LENGTH = 256;

/** What the head of a request says, before its body is read. */
export type RequestHead = Omit<
  ModelRequest,
  'body' | 'bodyDigest' | 'print' | 'retryKey' | 'dropBody' | 'facts' | 'earlier' | 'spending'
> & { readonly operation: Operation };

/**
 * @param tokensPerTask the operator's budget for a task; 0 is none
 */
export function readHead(
  request: DownstreamRequest,
  asked: Asked,
  receivedMs: number,
  ownerCalls: OwnerCalls | undefined,
  budgets: TaskBudgets,
  tokensPerTask: number,
): RequestHead {
  const method = request.method ?? 'GET';
  const { path, api } = asked;
  const headers = plainHeaders(request.headers);
  const ownerCall = ownerCalls?.find(headers);
  const taskId = idOf(headers['x-task-id']) ?? ownerCall?.taskId ?? '';
  const plain = path.split('?', 1)[0]!;
  const operation = operationOf(method, plain, api);
  const isBounded = traitsOf(operation).isCounted || spendsUncounted(method, plain, api);
  const task = taskOf(taskId, headers);
  return {
    method,
    path,
    asked,
    headers,
    operation,
    receivedMs,
    clientAtMs: receivedMs + clientPatienceMs(headers),
    retryCount: clientRetryCount(headers),
    caller: taskKey(ownerCall, task) || task,
    ownerCall,
    taskId,
    budget: isBounded ? requestBudget({ ownerCall, taskId, headers }, budgets, tokensPerTask) : undefined,
  };
}

/** Returns the budget that a request draws on, whatever its operation; undefined without one. */
export function requestBudget(
  { ownerCall, taskId, headers }: BudgetedRequest,
  budgets: TaskBudgets,
  tokensPerTask: number,
) {
  const key = taskKey(ownerCall, taskOf(taskId, headers));
  return budgets.forRequest(ownerCall, key, headers, tokensPerTask);
}

interface BudgetedRequest {
  readonly ownerCall: OwnerCall | undefined;
  readonly taskId: string;
  readonly headers: HttpHeaders;
}

/** Returns the task of a request, or its trace where it names no task. */
function taskOf(taskId: string, headers: HttpHeaders): string {
  return taskId || (traceIdIn(headers) ?? '');
}

function idOf(value: string | string[] | undefined): string | undefined {
  const text = textOf(value);
  return text === undefined || text === '' || text.length > MAX_ID_LENGTH ? undefined : text;
}
