/** Reads the head of a request: its operation, its task, its caller, and its budget. */
import { MoneyBudget, parseUsd, REQUEST_USD_HEADER } from '../../policy/money.ts';
import { RequestBudget } from '../../policy/request-budget.ts';
import {
  JointBudget,
  parseTokenBudget,
  REQUEST_BUDGET_HEADER,
  TokenBudget,
  type TokenSource,
} from '../../policy/token-budget.ts';
import { clientPatienceMs, clientRetryCount } from '../caller/client-patience.ts';
import type { DownstreamRequest } from '../caller/downstream.ts';
import type { Asked } from '../kinds/asked.ts';
import { mayCostUncounted, operationOf, spendsUncounted, traitsOf } from '../kinds/operations.ts';
import { type TaskBudgets, taskKey } from '../limits/task-budgets.ts';
import { pathWithoutSecrets, takeOutSecrets } from '../service/presented-keys.ts';
import type { ServiceCaller } from '../service/service-caller.ts';
import { type HttpHeaders, textOf } from '../shared/headers.ts';
import type { LlmLimitSettings } from '../shared/llm-settings.ts';
import type { Operation } from '../shared/operation.ts';
import type { OwnerCall, OwnerCalls } from '../shared/owner-call.ts';
import type { LlmRequestInfo } from '../shared/request-observer.ts';
import { plainHeaders, traceIdIn } from './incoming-head.ts';
import type { ModelRequest } from './model-request.ts';

/** The agent chooses ids: a longer one counts as none. */
const MAX_ID_LENGTH = 256;

/** What the head of a request says, before its body is read. */
export type RequestHead = Omit<
  ModelRequest,
  'body' | 'bodyDigest' | 'print' | 'retryKey' | 'dropBody' | 'facts' | 'earlier' | 'spending' | 'visit'
> & { readonly operation: Operation };

/**
 * @param client the caller of the service; undefined beside an agent
 * @param limits the operator's budgets for a task; 0 is none
 */
export function readHead(
  request: DownstreamRequest,
  target: Asked,
  client: ServiceCaller | undefined,
  receivedMs: number,
  ownerCalls: OwnerCalls | undefined,
  budgets: TaskBudgets,
  limits: TaskLimits,
): RequestHead {
  const method = request.method ?? 'GET';
  const headers = plainHeaders(request.headers);
  const asked = client === undefined ? target : ofService(target, headers);
  const { path, api } = asked;
  const ownerCall = ownerCalls?.find(headers);
  const taskId = idOf(headers['x-task-id']) ?? ownerCall?.taskId ?? '';
  const plain = path.split('?', 1)[0]!;
  const operation = operationOf(method, plain, api);
  // A budget of a caller bounds all that it does; that of a task leaves out what does not generate a text.
  const spends = client === undefined ? spendsUncounted : mayCostUncounted;
  const isBounded = traitsOf(operation).isCounted || spends(method, plain, api);
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
    caller: client?.name ?? (taskKey(ownerCall, task) || task),
    client,
    ownerCall,
    taskId,
    budget: isBounded ? requestBudget({ ownerCall, taskId, headers, client }, budgets, limits) : undefined,
  };
}

/** The credentials of a caller of the service have done their work: nothing behind this sees them. */
function ofService(target: Asked, headers: HttpHeaders): Asked {
  takeOutSecrets(headers);
  return { ...target, path: pathWithoutSecrets(target.path), isOfService: true };
}

/** Returns all models that the query of a WebSocket names. */
export function modelsOf({ path }: Pick<RequestHead, 'path'>): readonly string[] {
  return new URLSearchParams(path.split('?', 2)[1]).getAll('model');
}

/** Returns what observers receive about a WebSocket, whose query names its model. */
export function infoOfWebSocket({ operation, path, headers, taskId, client }: RequestHead): LlmRequestInfo {
  const [plain = ''] = path.split('?', 1);
  return {
    operation,
    method: 'GET',
    path: plain,
    model: (modelsOf({ path })[0] ?? '').slice(0, MAX_ID_LENGTH),
    stream: true,
    maxOutputTokens: 0,
    temperature: undefined,
    headers,
    taskId,
    client: client?.name ?? '',
  };
}

/** Returns the budget that a request draws on, whatever its operation; undefined without one. */
export function requestBudget(
  { ownerCall, taskId, headers, client }: BudgetedRequest,
  budgets: TaskBudgets,
  { tokensPerTask, usdPerTask }: TaskLimits,
): RequestBudget | undefined {
  const task = taskKey(ownerCall, taskOf(taskId, headers));
  const key = client === undefined || task === '' ? task : `${client.name} ${task}`;
  const tokens = joint([
    budgets.forRequest(ownerCall, key, headers, tokensPerTask),
    client && budgetOfRequest(headers),
    client?.budget,
  ]);
  const money = joint([
    budgets.moneyFor(ownerCall, key, headers, usdPerTask),
    client && moneyOfRequest(headers),
    client?.money,
  ]);
  return RequestBudget.of(tokens, money);
}

/** What a sidecar that uses this service allows the request: its own budgets have reserved so much. */
function budgetOfRequest(headers: HttpHeaders): TokenBudget | undefined {
  const total = parseTokenBudget(textOf(headers[REQUEST_BUDGET_HEADER]) ?? '');
  return total < 0 ? undefined : new TokenBudget(total);
}

/** The same for money. */
function moneyOfRequest(headers: HttpHeaders): MoneyBudget | undefined {
  const total = parseUsd(textOf(headers[REQUEST_USD_HEADER]) ?? '');
  return total < 0 ? undefined : new MoneyBudget(total);
}

function joint(sources: readonly (TokenSource | undefined)[]): TokenSource | undefined {
  const present = sources.filter((one) => one !== undefined);
  return present.length > 1 ? new JointBudget(...present) : present[0];
}

type TaskLimits = Pick<LlmLimitSettings, 'tokensPerTask' | 'usdPerTask'>;

interface BudgetedRequest {
  readonly ownerCall: OwnerCall | undefined;
  readonly taskId: string;
  readonly headers: HttpHeaders;
  readonly client: ServiceCaller | undefined;
}

/** Returns the task of a request, or its trace where it names no task. */
function taskOf(taskId: string, headers: HttpHeaders): string {
  return taskId || (traceIdIn(headers) ?? '');
}

function idOf(value: string | string[] | undefined): string | undefined {
  const text = textOf(value);
  return text === undefined || text === '' || text.length > MAX_ID_LENGTH ? undefined : text;
}
