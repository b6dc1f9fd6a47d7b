/** Implements agent.AgentService's task methods. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { handleServerStreamingCall, handleUnaryCall } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { loggedError } from '../process/redact.ts';
import type { TaskChunk, TaskRequest, TaskResponse } from '../protocol/messages.ts';
import type { Agent } from './agent.ts';
import { type AgentError, classify, type ErrorStatus, toStatus } from './errors.ts';
import { secretsOf } from './settings.ts';
import { type ContextSettings, type IncomingCall, startTask, type TaskContext } from './task-context.ts';
import { validateTask } from './validate-task.ts';

export interface TaskServiceSettings extends ContextSettings {
  agent: Agent;
  log: Logger;
  /** A fault for demonstrations: delays each task by this time. */
  delay: { ms: number };
}

/** ProcessTask: answers with the agent's whole answer, or with the status of its error. */
export function unaryHandler(settings: TaskServiceSettings): handleUnaryCall<TaskRequest, TaskResponse> {
  return (call, answer) => {
    const startedMs = performance.now();
    const work = async (context: TaskContext) => {
      const result = await untilAborted(settings.agent.processTask(call.request, context), context.signal);
      answer(null, {
        task_id: call.request.task_id,
        output: result.output,
        status: result.status ?? 'SUCCESS',
        tokens_used: result.tokens_used ?? 0,
        latency_ms: Math.round(performance.now() - startedMs),
        tool_calls: result.tool_calls ?? [],
      });
    };
    void run(settings, call, work, answer);
  };
}

/** StreamProcess: sends a chunk for each piece that the agent yields, then an empty one with is_final. */
export function streamHandler(
  settings: TaskServiceSettings,
): handleServerStreamingCall<TaskRequest, TaskChunk> {
  return (call) => {
    const work = async (context: TaskContext) => {
      const { signal } = context;
      const pieces = settings.agent.streamProcess(call.request, context)[Symbol.asyncIterator]();
      try {
        for (;;) {
          const piece = await untilAborted(pieces.next(), signal);
          if (piece.done) break;
          // write returns false when the caller reads more slowly than the agent answers: the agent waits.
          if (!call.write({ chunk: piece.value, is_final: false })) await once(call, 'drain', { signal });
        }
      } finally {
        // Not awaited: an agent that ignores its signal must not delay the answer.
        pieces.return?.().catch(() => {});
      }
      call.write({ chunk: '', is_final: true });
      call.end();
    };
    void run(settings, call, work, (status) => call.emit('error', status));
  };
}

/** The common part: validates the task, creates its context, and translates errors to a status. */
async function run(
  settings: TaskServiceSettings,
  call: IncomingCall,
  work: (context: TaskContext) => Promise<void>,
  fail: (status: ErrorStatus) => void,
): Promise<void> {
  const { context, release } = startTask(call, settings);
  let failedWith: string | undefined;
  try {
    validateTask(call.request);
    const { delay } = settings;
    if (delay.ms > 0) await sleep(delay.ms, undefined, { signal: context.signal });
    await work(context);
  } catch (thrown) {
    // Once the signal has fired, it is the cause of whatever the agent threw.
    const error = context.signal.aborted
      ? (context.signal.reason as AgentError)
      : classify(thrown, secretsOf(settings.model));
    failedWith = error.code;
    report(settings, call.request, error, thrown);
    fail(toStatus(error));
  } finally {
    release(failedWith);
  }
}

/** Settles with the work, or as soon as the signal fires, even if the work ignores it. */
async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let abort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
  });
  try {
    const value = await Promise.race([work, aborted]);
    // The openai client ends an aborted stream as if it were complete.
    signal.throwIfAborted();
    return value;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

function report(settings: TaskServiceSettings, task: TaskRequest, error: AgentError, thrown: unknown): void {
  const secrets = secretsOf(settings.model);
  const level = error.code === 'INTERNAL' ? 'error' : error.code === 'CANCELLED' ? 'debug' : 'warn';
  const { task_id, correlation_id } = task;
  settings.log[level](
    { task_id, correlation_id, code: error.code, err: loggedError(thrown, secrets) },
    error.message,
  );
}
