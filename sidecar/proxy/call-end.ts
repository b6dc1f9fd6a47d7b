/** Ends a call: answers it in the sidecar's own name, and gives back all that it held. */
import type { StatusCode } from '../grpc/status.ts';
import type { TaskObserver } from '../telemetry/task-stats.ts';
import { countCall, endActive } from './call-accounting.ts';
import type { CallWith } from './call-facts.ts';
import { endTrace, type RecordedCall } from './call-tracing.ts';
import type { Dependent, InboundCall } from './inbound-call.ts';
import { inTime } from './late-pushback.ts';
import { withModelFailure } from './model-failures.ts';
import { endOwnership } from './ownership.ts';
import type { QueuePlace } from './queue-place.ts';
import type { LocalReply } from './reasons.ts';
import { type GivenUpCall, giveUp, settleCircuit } from './settlement.ts';
import { settleBudgets } from './task-budget.ts';

/** A call that its caller spoils within this time counts as spoiled at once (`Connection.waste`). */
const AT_ONCE_MS = 20;

/** The call that ends. */
type EndingCall = GivenUpCall &
  InboundCall &
  Dependent &
  RecordedCall &
  CallWith<'head' | 'stream' | 'request' | 'response' | 'progress' | 'lineage' | 'role' | 'list'> & {
    readonly clock: { stop(): void; stopIdle(): void };
    /** Its place on the listener, or in the queue. */
    readonly place: QueuePlace | undefined;
    readonly response: { readonly observer: TaskObserver | undefined };
    finish(status: StatusCode): void;
  };

/** Ends a call with an answer of the sidecar's own; does nothing for a call that is over. */
export function answerCall(call: EndingCall, reply: LocalReply): void {
  if (call.progress.isDone) return;
  const { context, stream } = call;
  const local = inTime(call, reply);
  giveUp(call, 'own_limit', local.status);
  stream.unserved = true;
  call.response.sendLocal(withModelFailure(call, local), call.info.grpc, call.head.method);
  if (call.progress.status === -1) {
    call.progress.explain(local.reason);
    context.stats.reject(local.reason);
  }
  call.finish(local.status);
  if (reply.byCaller === true)
    stream.connection.waste(stream, context.clock() - call.startedAtMs < AT_ONCE_MS);
}

/** No part of the call runs any more: gives back what it held, and reports its end. */
export function finishCall(call: EndingCall, status: StatusCode): void {
  const { clock, context, progress, request, response, stream, tries } = call;
  const isCounted = progress.status !== -1;
  progress.end(status);
  // Bytes that wait for a slow reader keep their deadline; see endForDeadline.
  if (stream.closed || stream.queue === undefined) clock.stop();
  request.drop();
  clock.stopIdle();
  tries?.retryWait?.cancel();
  call.role.follower?.leave('cancelled');
  response.close(status);
  endOwnership(call);
  settleBudgets(call, undefined);
  tries?.hedging?.stop();
  call.place?.giveBack(status, context.clock());
  settleCircuit(call);
  endActive(call);
  if (context.tracer !== undefined) endTrace(call);
  if (!isCounted) countCall(call, status);
  response.observer?.onEnd(status, call.lineage.modelTokens, response.wanted);
  context.observer?.onCallEnd(call);
}
