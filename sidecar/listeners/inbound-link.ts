/** Finds the inbound call that owns a model request, for the egress, which does not import the proxy. */
import type { JournaledRun } from '../journal/journal.ts';
import { isLastRun } from '../journal/run/last-run.ts';
import { type Headers, textOf } from '../llm/shared/headers.ts';
import type { OwnerCall, OwnerCalls } from '../llm/shared/owner-call.ts';
import type { TaskMoney } from '../policy/task-money.ts';
import { scopeDigest } from '../proxy/caller-scope.ts';
import type { Dependent, InboundCall, OwnerRun } from '../proxy/inbound-call.ts';
import type { Owner, InboundCalls as RunningCalls } from '../proxy/inbound-calls.ts';
import { PASSED_HEADERS, PassedIds } from '../proxy/passed-ids.ts';
import type { RequestIds } from '../proxy/request-ids.ts';
import { budgetOf, moneyOf } from '../proxy/task-budget.ts';

/** Returns the inbound call that owns a model request of the agent. */
export function ownerOfRequest(running: RunningCalls, headers: Headers): Owner | undefined {
  return running.size === 0 ? undefined : running.ownerOf(idsOf(headers), '', '');
}

function idsOf(headers: Headers): RequestIds {
  const passed = new PassedIds();
  for (const name of PASSED_HEADERS) {
    const text = textOf(headers[name]);
    if (text !== undefined) passed.read(name, text);
  }
  return { traceparent: textOf(headers['traceparent']) ?? '', traceBinary: '', passed };
}

/** Connects the agent's model requests with the inbound calls that own them. */
export class InboundLink implements OwnerCalls {
  private readonly running: RunningCalls;
  private readonly runs = new WeakMap<OwnerRun, JournaledRun>();

  constructor(running: RunningCalls) {
    this.running = running;
  }

  get taskMoney(): TaskMoney {
    return this.running.money;
  }

  isOver(headers: Headers): boolean {
    return headers['baggage'] !== undefined && this.running.ofHead(idsOf(headers)) === 'over';
  }

  find(headers: Headers): OwnerCall | undefined {
    const owner = ownerOfRequest(this.running, headers);
    if (owner === undefined) return undefined;
    const { call } = owner;
    const deadlineMs = owner.deadlineMs === 0 ? Number.POSITIVE_INFINITY : owner.deadlineMs;
    const callerScope = owner.callerScope === undefined ? undefined : scopeDigest(owner.callerScope);
    if (call === undefined) return { ...NOT_KNOWN, callerScope, deadlineMs };
    return {
      deadlineMs,
      callerScope,
      taskId: call.task?.taskId ?? '',
      budget: budgetOf(call),
      money: moneyOf(call, this.running),
      run: this.runOf(call),
      onEnd: (listener) => {
        const dependent: Dependent = { onOwnerGone: listener };
        call.lineage.addDependent(dependent);
        return () => call.lineage.removeDependent(dependent);
      },
      spend: (tokens) => {
        call.lineage.countTokens(tokens);
      },
      modelEnded: (failure) => {
        call.lineage.noteModelFailure(failure);
      },
    };
  }

  /** The same for all requests of one run. */
  private runOf({ role, task, lineage }: InboundCall): JournaledRun | undefined {
    const { run } = role;
    if (run === undefined) return undefined;
    let journaled = this.runs.get(run);
    if (journaled !== undefined) return journaled;
    journaled = {
      task: run.entry.fingerprint,
      taskId: task?.taskId ?? '',
      whenOver: (listener) =>
        run.whenOver((status, taskStatus) =>
          listener(isLastRun(status, taskStatus, lineage.modelFailure !== undefined)),
        ),
    };
    this.runs.set(run, journaled);
    return journaled;
  }
}

/** The owner may be any of several calls. */
const NOT_KNOWN = { taskId: '', budget: undefined, money: undefined, onEnd: () => () => {} } as const;
