/**
 * Passes the budgets of a task through agents, in tokens and in money. An inbound call carries them as
 * `outrigger-token-budget` and `outrigger-usd-budget`; its agent's model requests draw on them (`llm/`), and each call to
 * another agent gets a part, which stays reserved until that agent's sidecar reports how much it used:
 *
 *     caller ──budget 20000──▶ sidecar ──▶ agent ──▶ model
 *                                 │ half of what is left, or what the agent asks for
 *                                 └──budget 10000──▶ sidecar ──▶ agent ──▶ model
 *                                 ◀──tokens-used 1200──┘  the rest comes back
 *
 * If no report arrives for an attempt, its use is unknown and counts as its whole part: the sum is never overspent.
 */
import type { HeaderList } from '../http2/hpack/header-list.ts';
import { parseUsd, USD_BUDGET_HEADER, USD_USED_HEADER, writeUsd } from '../policy/money.ts';
import { nameOfTask } from '../policy/task-money.ts';
import {
  JointBudget,
  parseTokenBudget,
  TOKEN_BUDGET_HEADER,
  TOKENS_USED_HEADER,
  type TokenBudget,
  type TokenSource,
} from '../policy/token-budget.ts';
import type { CallWith } from './call-facts.ts';
import { scopeDigest } from './caller-scope.ts';
import type { InboundCall } from './inbound-call.ts';
import type { InboundCalls } from './inbound-calls.ts';
import type { GivenPart } from './lineage.ts';

/** A call that gets a part of its owner's budgets. */
export type GivingCall = CallWith<'context' | 'lineage' | 'info'>;

/** Undefined for a call that came without a budget, or from a caller that may set none (`inbound.token_budget`). */
export function budgetOf({ tokenBudget, lineage }: InboundCall): TokenBudget | undefined {
  return tokenBudget < 0 ? undefined : lineage.drawOn(tokenBudget);
}

/** The money of one call: what its caller gave it, and no more than the operator gives any task. */
export function moneyOf(call: InboundCall, { money }: Pick<InboundCalls, 'money'>): TokenBudget | undefined {
  const total = call.moneyBudget < 0 ? money.perTask : Math.min(call.moneyBudget, money.perTask);
  return Number.isFinite(total) ? call.lineage.drawOnMoney(total) : undefined;
}

/** The money of the call and of its task, from which a part is given; undefined without a limit. */
function givenFrom(owner: InboundCall, calls: InboundCalls): TokenSource | undefined {
  const ofCall = moneyOf(owner, calls);
  if (ofCall === undefined) return undefined;
  const { callerScope, task, info } = owner;
  const ofTask = calls.money.of(
    nameOfTask(scopeDigest(callerScope), task?.taskId || traceIdOf(info.traceparent)),
  );
  return ofTask === undefined ? ofCall : new JointBudget(ofCall, ofTask);
}

function traceIdOf(traceparent: string): string {
  return /^[\da-f]{2}-([\da-f]{32})-/.exec(traceparent)?.[1] ?? '';
}

/** The fields that give a call its part of its owner's budgets, and the parts, which must be settled. */
export interface GivenBudgets {
  readonly fields: readonly string[];
  readonly tokens: GivenPart | undefined;
  readonly money: GivenPart | undefined;
}

/** Reserves a part of what an inbound call may use for work that is done for it; undefined where it has no budget. */
export function partFor(
  owner: InboundCall,
  info: { readonly tokenBudget: number; readonly moneyBudget: number },
  calls: InboundCalls,
): GivenBudgets | undefined {
  const tokens = reserved(budgetOf(owner), info.tokenBudget, owner.tokenBudget);
  const money = reserved(givenFrom(owner, calls), info.moneyBudget, owner.moneyBudget);
  if (tokens === undefined && money === undefined) return undefined;
  const fields: string[] = [];
  if (tokens !== undefined) fields.push(TOKEN_BUDGET_HEADER, String(tokens.reservation.tokens));
  if (money !== undefined) fields.push(USD_BUDGET_HEADER, writeUsd(money.reservation.tokens));
  return { fields, tokens, money };
}

/**
 * @param asked what the agent asks for; -1 without a word
 * @param owners what its own call came with: an agent that passes this on does not ask for all of it
 */
function reserved(source: TokenSource | undefined, asked: number, owners: number): GivenPart | undefined {
  if (source === undefined) return undefined;
  const { left } = source;
  const asks = asked >= 0 && asked !== owners;
  const reservation = source.reserve(Math.min(asks ? asked : Math.floor(left / 2), left));
  return reservation && { source, reservation };
}

/**
 * The fields that give an attempt of an outbound call its part of the owner's budgets; undefined when there is no
 * budget.
 */
export function giveBudgets(call: GivingCall): readonly string[] | undefined {
  const { info, lineage, context } = call;
  const { owner } = lineage;
  if (owner === undefined) return undefined;
  // The reservation of an earlier attempt, which has not reported its use.
  settleBudgets(call, undefined);
  const given = partFor(owner, info, context.inboundCalls);
  if (given === undefined) return undefined;
  lineage.take(given.tokens, given.money);
  return given.fields;
}

/** What an attempt has used of its parts; undefined without a report. */
interface UsedBudgets {
  readonly tokens: number | undefined;
  readonly nanos: number | undefined;
}

/** What an attempt has used that nobody has worked on. */
export const NOTHING_USED: UsedBudgets = { tokens: 0, nanos: 0 };

export function settleBudgets({ lineage }: GivingCall, used: UsedBudgets | undefined): void {
  const { givenTokens, givenMoney } = lineage;
  if (givenTokens === undefined && givenMoney === undefined) return;
  lineage.settleGiven();
  settlePart(givenTokens, used?.tokens);
  settlePart(givenMoney, used?.nanos);
}

/** Settles the parts by the report in the trailers of an answer. */
export function settleByReport(call: GivingCall, trailers: HeaderList): void {
  const { givenTokens, givenMoney } = call.lineage;
  if (givenTokens === undefined && givenMoney === undefined) return;
  settleBudgets(call, {
    tokens: reported(trailers, TOKENS_USED_HEADER, parseTokenBudget),
    nanos: reported(trailers, USD_USED_HEADER, parseUsd),
  });
}

/** @param used undefined counts as the whole part */
export function settlePart(part: GivenPart | undefined, used: number | undefined): void {
  part?.source.settle(part.reservation, used ?? part.reservation.tokens);
}

/** The trailers that report what an inbound call has used; requests that its agent left running count in full. */
export function usedFields({
  tokenBudget,
  moneyBudget,
  lineage,
}: InboundCall): readonly string[] | undefined {
  if (tokenBudget < 0 && moneyBudget < 0) return undefined;
  const fields: string[] = [];
  if (tokenBudget >= 0) fields.push(TOKENS_USED_HEADER, String(lineage.drawnTokens));
  if (moneyBudget >= 0) fields.push(USD_USED_HEADER, writeUsd(lineage.drawnNanos));
  return fields;
}

/** Reads the last field: the sidecar adds its own behind one that an agent may have passed on. */
function reported({ fields }: HeaderList, name: string, parse: (text: string) => number): number | undefined {
  for (let i = fields.length - 2; i >= 0; i -= 2) {
    if (fields[i] !== name) continue;
    const used = parse(fields[i + 1]!);
    return used < 0 ? undefined : used;
  }
  return undefined;
}
