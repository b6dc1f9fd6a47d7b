/**
 * Makes of a request what a log stores, in one way for calls and for `outrigger.v1.Tasks`: two requests of one caller with
 * equal bytes are one task, whichever way each came.
 */
import { hash, randomUUID } from 'node:crypto';
import { stringField } from '../../task/protobuf.ts';
import { taskFingerprint, taskScope } from '../../task/task-fingerprint.ts';
import { readTaskKey } from '../../task/task-message.ts';
import type { NewTask, TaskKey } from '../log/task-record.ts';
import { encodeRequest, type Fields } from './payload.ts';
import type { Sealer } from './sealer.ts';

/** `TaskRequest.task_id`. */
const TASK_ID_FIELD = 1;

/** A request for an agent, before it is a task. */
export interface TaskOrder {
  /** The method that carries the task: `/agent.AgentService/ProcessTask`. */
  readonly path: string;
  /** The agent type that the task waits for. */
  readonly agentType: string;
  /** The verified name of the sidecar that submits, or '' where nothing verifies it. */
  readonly publisher: string;
  /** The digest of the caller's scope (`proxy/caller-scope.ts`). */
  readonly scope: string;
  /** The fields that may be stored: never credentials. */
  readonly fields: Fields;
  /** An `agent.TaskRequest`, without prefix and uncompressed. */
  readonly message: Buffer;
  /** Milliseconds until the deadline; Infinity without one. */
  readonly timeLeftMs: number;
  /** The caller's own name of the task, which takes the place of the request in its key; '' for none. */
  readonly idempotencyKey?: string;
}

/** A request without a task id gets a random one, so that it joins no other. */
export function newTask(order: TaskOrder, sealer: Sealer): NewTask {
  const { path, agentType, publisher, scope, fields, timeLeftMs, idempotencyKey = '' } = order;
  const caller = callerOf(publisher, scope);
  const given = readTaskKey(order.message, 0, order.message.length);
  const { correlationId } = given;
  let { taskId } = given;
  let { message } = order;
  if (taskId === '') {
    taskId = idempotencyKey === '' ? randomUUID() : digestOf('task id', caller, idempotencyKey).slice(0, 32);
    message = Buffer.concat([message, stringField(TASK_ID_FIELD, taskId)]);
  }
  const inScope = taskScope(path, publisher, scope, agentType);
  const { text } = taskFingerprint(inScope, message, 0, message.length);
  const digest = hash('sha256', text, 'base64url');
  const payload = encodeRequest({ path, identity: publisher, scope, taskId, correlationId, fields, message });
  return {
    key: idempotencyKey === '' ? digest : keyOf(publisher, scope, idempotencyKey),
    digest,
    agentType,
    publisher,
    caller,
    timeLeftMs,
    payload: sealer.seal(payload),
  };
}

/** The key of the task that this caller submitted under a name of its own. */
function keyOf(publisher: string, scope: string, idempotencyKey: string): TaskKey {
  return digestOf('idempotency key', callerOf(publisher, scope), idempotencyKey);
}

/** Names the caller whose queue a task joins, and who may ask for it: one scope at one publisher; '' where nothing tells callers apart. */
export function callerOf(publisher: string, scope: string): string {
  return publisher === '' && scope === '' ? '' : digestOf('caller', publisher, scope);
}

function digestOf(...parts: readonly string[]): string {
  return hash('sha256', JSON.stringify(parts), 'base64url');
}
