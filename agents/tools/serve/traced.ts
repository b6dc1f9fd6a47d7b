/** The span of a tool's run, by OpenTelemetry's conventions for generative AI. */
import { AgentError } from '../../runtime/errors.ts';
import { beginWork, traceHeaders } from '../../tracing/tracing.ts';
import type { ToolOutcome, ToolRequest } from '../run/tool-run.ts';

/**
 * Runs the call inside a span `execute_tool NAME`; arguments and results are no part of it.
 *
 * @param headerOf the header of the call that carries a trace
 */
export async function traced(
  { tool, callId }: ToolRequest,
  headerOf: (name: (typeof traceHeaders)[number]) => unknown,
  run: () => Promise<ToolOutcome>,
): Promise<ToolOutcome> {
  const incoming: Record<string, string> = {};
  for (const name of traceHeaders) {
    const value = headerOf(name);
    if (typeof value === 'string') incoming[name] = value;
  }
  const name = tool.slice(0, 64);
  const work = beginWork(`execute_tool ${name}`, 'internal', incoming, {
    'gen_ai.operation.name': 'execute_tool',
    'gen_ai.tool.name': name,
    'gen_ai.tool.type': 'function',
    ...(callId === '' ? {} : { 'gen_ai.tool.call.id': callId.slice(0, 256) }),
  });
  try {
    const outcome = await run();
    work?.end({ 'outrigger.tool.exit_code': outcome.exitCode, 'outrigger.tool.replayed': outcome.replayed });
    return outcome;
  } catch (error) {
    work?.end({}, error instanceof AgentError ? error.code : 'INTERNAL');
    throw error;
  }
}
