/** The context of one task for its agent. */
import type { Metadata } from '@grpc/grpc-js';
import type OpenAI from 'openai';
import type { TaskRequest } from '../protocol/messages.ts';
import { beginWork, traceHeaders } from '../tracing/tracing.ts';
import type { Work } from '../tracing/work.ts';
import { allTools } from './all-tools.ts';
import { AgentError } from './errors.ts';
import { forwardedHeaders, forwardedMetadata } from './forwarded-metadata.ts';
import type { McpServers, McpSource } from './mcp-servers.ts';
import { answerText, createModelClient, type ModelOptions, modelOptions } from './model.ts';
import { type AgentChannels, type OtherAgents, otherAgents } from './other-agents.ts';
import type { ModelSettings } from './settings.ts';
import { type ToolRunnerChannel, type Tools, type ToolTask, toolsOf } from './tools.ts';

/** The tools and data that an agent has while it processes one task. */
export interface TaskContext {
  /** Fires when the caller cancels or disconnects, at the deadline, and when the agent stops. */
  readonly signal: AbortSignal;
  /** The caller's deadline, in milliseconds since the epoch; Infinity if it set none. */
  readonly deadlineMs: number;
  /** Milliseconds until the deadline, never below 0; Infinity without one. */
  timeLeftMs(): number;
  /** The call's metadata, unchanged. */
  readonly metadata: Metadata;
  /** A model client whose requests end with this task and carry its ids. Created on first use. */
  readonly openai: OpenAI;
  /** `model`, and `max_tokens` and `temperature` if the task sets them: spread it into a request. */
  readonly modelOptions: ModelOptions;
  /** The text of a streamed chat completion; throws if the stream was truncated. */
  answerText: typeof answerText;
  /** Calls to other agents through the sidecar, with this task's deadline, cancellation and trace. */
  readonly agents: OtherAgents;
  /** The tools of the tool runner (AGENT_TOOLS) and of MCP servers (AGENT_MCP); undefined where neither is configured. */
  readonly tools: Tools | undefined;
}

/** The parts of a grpc-js server call that a context needs. */
export interface IncomingCall {
  readonly request: TaskRequest;
  readonly metadata: Metadata;
  getDeadline(): Date | number;
  on(event: 'cancelled', listener: () => void): unknown;
}

export interface ContextSettings {
  agent: { name: string; version: string };
  model: ModelSettings;
  channels: AgentChannels;
  tools: ToolRunnerChannel | undefined;
  mcp: McpServers | undefined;
  /** Fires when running tasks have to end. */
  stopping: AbortSignal;
}

export interface RunningTask {
  context: TaskContext;
  /** Call this when the call has ended, with the code of its failure. */
  release(failedWith?: string): void;
}

/** The longest delay of a Node timer; a later deadline needs no timer. */
const longestTimerMs = 2 ** 31 - 1;

/** Creates the context of a call. The signal's reason is the AgentError for the caller. */
export function startTask(call: IncomingCall, settings: ContextSettings): RunningTask {
  const task = call.request;
  const deadlineMs = Number(call.getDeadline());
  const timeLeftMs = () => Math.max(0, deadlineMs - Date.now());
  const controller = new AbortController();
  const { signal } = controller;

  const expire = () => controller.abort(new AgentError('DEADLINE_EXCEEDED', 'the deadline has expired'));
  const timer = timeLeftMs() <= longestTimerMs ? setTimeout(expire, timeLeftMs()) : undefined;
  call.on('cancelled', () => {
    if (timeLeftMs() === 0) expire();
    else controller.abort(new AgentError('CANCELLED', 'the caller cancelled the task'));
  });
  const stop = () => controller.abort(new AgentError('UNAVAILABLE', 'the agent is stopping'));
  settings.stopping.addEventListener('abort', stop, { once: true });
  if (settings.stopping.aborted) stop();

  const work = beginTaskWork(call, settings.agent);
  let openai: OpenAI | undefined;
  const forwarded = forwardedMetadata(call.metadata, work);
  const headers = forwardedHeaders(call.metadata, task, work);
  const toolTask: ToolTask = { taskId: task.task_id, signal, deadlineMs, forwarded, headers };
  const sources: readonly McpSource[] = settings.mcp?.forTask(toolTask) ?? [];
  const runner = settings.tools && toolsOf(settings.tools, toolTask);
  const context: TaskContext = {
    signal,
    deadlineMs,
    timeLeftMs,
    metadata: call.metadata,
    get openai() {
      openai ??= createModelClient(settings.model, signal, headers);
      return openai;
    },
    modelOptions: modelOptions(settings.model, task),
    answerText,
    agents: otherAgents(settings.channels, {
      task,
      signal,
      deadlineMs,
      forwarded,
    }),
    tools: sources.length === 0 ? runner : allTools(runner, sources),
  };
  const release = (failedWith?: string) => {
    for (const source of sources) source.close();
    work?.end({}, failedWith);
    clearTimeout(timer);
    settings.stopping.removeEventListener('abort', stop);
  };
  return { context, release };
}

/** The agent's own span, a child of its sidecar's; none unless tracing is on (tracing.ts). */
function beginTaskWork(
  { request, metadata }: IncomingCall,
  agent: { name: string; version: string },
): Work | undefined {
  const incoming: Record<string, string> = {};
  for (const name of traceHeaders) {
    const value = metadata.get(name)[0];
    if (typeof value === 'string') incoming[name] = value;
  }
  return beginWork(`invoke_agent ${agent.name}`, 'internal', incoming, {
    'gen_ai.operation.name': 'invoke_agent',
    'gen_ai.agent.name': agent.name,
    'gen_ai.agent.version': agent.version,
    ...(request.correlation_id === '' ? {} : { 'gen_ai.conversation.id': request.correlation_id }),
  });
}
