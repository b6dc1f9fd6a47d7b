/** Tools for an agent's model: those of the tool runner, which the agent calls through its sidecar. */
import type { Metadata, ServiceError } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import type { ToolCall } from '../protocol/messages.ts';
import type { ToolDescription } from '../protocol/tool-messages.ts';
import { connectTools, type ToolsClient } from '../protocol/tools-client.ts';

/** The tools of one task. */
export interface Tools {
  /** What there is, in the form of a request to the model; none where the runner or the server can't be reached. */
  list(): Promise<ModelTool[]>;
  /**
   * Runs a tool once. A failure is a result, too: the model reads what happened, and whether it may have happened.
   *
   * @param callId names the call within the task
   * @throws the task's own end
   */
  run(name: string, json: string, callId: string, limits?: CallLimits): Promise<ToolRun>;
}

/** Bounds one call more tightly than its task. */
export interface CallLimits {
  /** Milliseconds since the epoch: then the call is ended. */
  deadlineMs?: number;
}

/** A call with its result, which is the model's to read, also when it failed. */
export interface ToolRun extends ToolCall {
  /** Why there is no result of the tool itself. */
  failed?: string;
}

/** A tool as a request to the model names it. */
export interface ModelTool {
  type: 'function';
  function: { name: string; description: string; parameters: Record<string, unknown> };
}

/** How long a list is good for: operators change tools seldom. */
const listMs = 30_000;
const listDeadlineMs = 2_000;

/** The runner that the agent's tasks share. */
export class ToolRunnerChannel {
  private readonly client: ToolsClient;
  private known: ToolDescription[] = [];
  private askedMs = Number.NEGATIVE_INFINITY;

  constructor(outbound: string, authority: string) {
    this.client = connectTools(outbound, authority);
  }

  async list(metadata: Metadata): Promise<ToolDescription[]> {
    const now = performance.now();
    if (now - this.askedMs < listMs) return this.known;
    this.askedMs = now;
    const deadline = Date.now() + listDeadlineMs;
    this.known = await new Promise((resolve) => {
      this.client.List({}, metadata, { deadline }, (error, list) => resolve(error ? [] : list!.tools));
    });
    // A runner that was not there may be there soon.
    if (this.known.length === 0) this.askedMs = now - listMs + listDeadlineMs;
    return this.known;
  }

  run(
    request: Parameters<ToolsClient['Run']>[0],
    metadata: Metadata,
    deadlineMs: number,
    signal: AbortSignal,
  ): Promise<ToolCall> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const options = Number.isFinite(deadlineMs) ? { deadline: deadlineMs } : {};
      const cancel = () => call.cancel();
      const call = this.client.Run(request, metadata, options, (error, result) => {
        signal.removeEventListener('abort', cancel);
        if (error) reject(error);
        else resolve(result!.call!);
      });
      signal.addEventListener('abort', cancel, { once: true });
    });
  }

  close(): void {
    this.client.close();
  }
}

/** What a task's tools need of it. */
export interface ToolTask {
  taskId: string;
  signal: AbortSignal;
  /** Milliseconds since the epoch; Infinity without a deadline. */
  deadlineMs: number;
  forwarded: Metadata;
  /** The same as `forwarded`, for HTTP. */
  headers: Readonly<Record<string, string>>;
}

export function toolsOf(
  runner: ToolRunnerChannel,
  { taskId, signal, deadlineMs, forwarded }: ToolTask,
): Tools {
  return {
    async list() {
      const tools = await runner.list(forwarded.clone());
      signal.throwIfAborted();
      return tools.map(({ name, description, input_schema }) => ({
        type: 'function',
        function: { name, description, parameters: JSON.parse(input_schema) },
      }));
    },
    async run(name, json, callId, limits = {}) {
      const untilMs = Math.min(deadlineMs, limits.deadlineMs ?? Number.POSITIVE_INFINITY);
      const startedMs = performance.now();
      const request = { tool_name: name, arguments: json, call_id: callId, task_id: taskId };
      const isIdempotent = (await runner.list(forwarded.clone())).some(
        (tool) => tool.name === name && tool.idempotent,
      );
      for (let attempt = 1; ; attempt++) {
        try {
          return await runner.run(request, forwarded.clone(), untilMs, signal);
        } catch (thrown) {
          signal.throwIfAborted();
          const error = thrown as ServiceError;
          const isUnknown = mayHaveRun(error);
          if (isUnknown && isIdempotent && attempt === 1) continue;
          const [result, failed] = isUnknown
            ? [
                `The outcome is unknown: ${name} may or may not have done its work. Do not assume either. (${error.details})`,
                `outcome unknown: ${error.details}`,
              ]
            : [`The tool did not succeed: ${error.details}`, error.details];
          const latency_ms = Math.round(performance.now() - startedMs);
          return { tool_name: name, arguments: json, result, latency_ms, failed };
        }
      }
    },
  };
}

/** A sidecar's word that the call reached no runner (`outrigger-reason`). */
const notSent = new Set([
  ...['no_route', 'no_endpoint', 'circuit_open', 'connect_failed', 'draining', 'overloaded'],
  ...['message_too_large', 'headers_too_large'],
]);
/** A runner's word that nothing has run, or that its result is the limit. */
const toldCodes: ReadonlySet<number> = new Set([
  ...[status.INVALID_ARGUMENT, status.NOT_FOUND, status.PERMISSION_DENIED, status.FAILED_PRECONDITION],
  ...[status.RESOURCE_EXHAUSTED, status.ALREADY_EXISTS, status.UNIMPLEMENTED, status.UNAUTHENTICATED],
]);

function mayHaveRun({ code, metadata }: ServiceError): boolean {
  if (toldCodes.has(code)) return false;
  if (metadata.get('agent-error-reason')[0] === 'sandbox') return false;
  return !notSent.has(String(metadata.get('outrigger-reason')[0] ?? ''));
}
