/** Implements outrigger.tools.v1.ToolRunner. */
import { once } from 'node:events';
import type {
  handleServerStreamingCall,
  handleUnaryCall,
  Metadata,
  UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { loggedError } from '../../process/redact.ts';
import type { ToolCallRequest, ToolEvent, ToolList, ToolResult } from '../../protocol/tool-messages.ts';
import { AgentError, classify, type ErrorStatus, toStatus } from '../../runtime/errors.ts';
import type { Runner } from '../run/runner.ts';
import { type ToolOutcome, type ToolRequest, textOf } from '../run/tool-run.ts';
import { callerOf } from './caller.ts';
import { traced } from './traced.ts';

interface ServiceSettings {
  runner: Runner;
  log: Logger;
  stopping: AbortSignal;
}

/** What both kinds of calls have. */
interface IncomingCall {
  request: ToolCallRequest;
  metadata: Metadata;
  getDeadline(): Date | number;
  on(event: 'cancelled', listener: () => void): unknown;
}

export function toolService(settings: ServiceSettings): UntypedServiceImplementation {
  const { runner } = settings;
  const list: handleUnaryCall<object, ToolList> = (_call, answer) => answer(null, listOf(runner));
  const run: handleUnaryCall<ToolCallRequest, ToolResult> = (call, answer) => {
    const work = async (signal: AbortSignal) => {
      const outcome = await runTraced(runner, call, signal);
      answer(null, resultOf(outcome, call.request.call_id));
    };
    void carryOut(settings, call, work, answer);
  };
  const runStream: handleServerStreamingCall<ToolCallRequest, ToolEvent> = (call) => {
    const work = async (signal: AbortSignal) => {
      const outcome = await runTraced(runner, call, signal, (stream, chunk) =>
        call.write({ [stream]: chunk }),
      );
      if (!call.write({ result: resultOf(outcome, call.request.call_id) }))
        await once(call, 'drain', { signal });
      call.end();
    };
    void carryOut(settings, call, work, (status) => call.emit('error', status));
  };
  return { List: list, Run: run, RunStream: runStream } as UntypedServiceImplementation;
}

function runTraced(
  runner: Runner,
  call: IncomingCall,
  signal: AbortSignal,
  onOutput?: Parameters<Runner['run']>[2],
): Promise<ToolOutcome> {
  const { tool_name: tool, arguments: json, call_id: callId, task_id: taskId } = call.request;
  const request: ToolRequest = { tool, arguments: json, callId, taskId, caller: callerOf(call.metadata) };
  const headerOf = (name: string) => call.metadata.get(name)[0];
  return traced(request, headerOf, () => runner.run(request, signal, onOutput));
}

/** Gives the work a signal that fires when the caller leaves, at the deadline, and when the runner stops. */
async function carryOut(
  { log, stopping }: ServiceSettings,
  call: IncomingCall,
  work: (signal: AbortSignal) => Promise<void>,
  fail: (status: ErrorStatus) => void,
): Promise<void> {
  const controller = new AbortController();
  const { signal } = controller;
  const leftMs = Math.max(0, Number(call.getDeadline()) - Date.now());
  const expire = () => controller.abort(new AgentError('DEADLINE_EXCEEDED', 'the deadline has expired'));
  const timer = leftMs < 2 ** 31 ? setTimeout(expire, leftMs) : undefined;
  const stop = () => controller.abort(new AgentError('UNAVAILABLE', 'the tool runner is stopping'));
  stopping.addEventListener('abort', stop, { once: true });
  if (stopping.aborted) stop();
  call.on('cancelled', () => controller.abort(new AgentError('CANCELLED', 'the caller cancelled the call')));
  try {
    await work(signal);
  } catch (thrown) {
    const error = signal.aborted ? (signal.reason as AgentError) : classify(thrown);
    const { tool_name, task_id, call_id } = call.request;
    const level = error.code === 'INTERNAL' ? 'error' : error.code === 'CANCELLED' ? 'debug' : 'warn';
    log[level](
      { tool_name, task_id, call_id, code: error.code, err: loggedError(thrown, []) },
      error.message,
    );
    fail(toStatus(error));
  } finally {
    clearTimeout(timer);
    stopping.removeEventListener('abort', stop);
  }
}

/** A runner that runs nothing has no tools, so that no model asks for one; the list says why. */
function listOf({ catalogue, proof, problem, settings }: Runner): ToolList {
  const tools = problem === undefined ? catalogue.tools : [];
  return {
    tools: tools.map((tool) => ({
      name: tool.name,
      description: tool.description,
      input_schema: JSON.stringify(tool.schema),
      idempotent: tool.idempotent,
      read_only: tool.readOnly,
      network: tool.network || tool.name === 'http_fetch',
    })),
    sandbox: {
      tier: proof.tier,
      minimum: settings.minimum,
      problems: problem === undefined ? [...proof.problems] : [problem],
    },
  };
}

function resultOf(outcome: ToolOutcome, callId: string): ToolResult {
  const { usage } = outcome;
  return {
    call: {
      tool_name: outcome.tool,
      arguments: outcome.arguments,
      result: textOf(outcome),
      latency_ms: outcome.latencyMs,
    },
    call_id: callId,
    failed: outcome.failed,
    exit_code: outcome.exitCode,
    stdout: outcome.stdout,
    stderr: outcome.stderr,
    replayed: outcome.replayed,
    usage: {
      wall_ms: usage.wallMs,
      cpu_ms: usage.cpuMs,
      memory: usage.memory,
      processes: usage.processes,
    },
  };
}
