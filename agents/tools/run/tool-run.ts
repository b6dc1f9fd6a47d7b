/** A call of a tool and its result, as the runner sees them. */
import type { RunUsage } from '../sandbox/sandboxed-run.ts';

export interface ToolRequest {
  tool: string;
  /** JSON. */
  arguments: string;
  /** What tells the caller apart from others; '' for none. */
  caller: string;
  /** Names the call for good; '' for none. */
  callId: string;
  /** Whose workspace the tool sees; '' for one of its own. */
  taskId: string;
}

export interface ToolOutcome {
  tool: string;
  arguments: string;
  /** The program ended with another code than 0, or the request failed. */
  failed: boolean;
  exitCode: number;
  stdout: Buffer;
  stderr: Buffer;
  latencyMs: number;
  usage: RunUsage;
  /** The result of an earlier call. */
  replayed: boolean;
}

/** The outcome as a model reads it. */
export function textOf({ stdout, stderr, exitCode, failed }: ToolOutcome): string {
  const out = stdout.toString();
  const err = stderr.toString();
  const parts = [out];
  if (err !== '') parts.push(`[standard error]\n${err}`);
  if (failed) parts.push(`[ended with code ${exitCode}]`);
  return parts
    .filter((part) => part !== '')
    .map((part, at, all) => (at === all.length - 1 || part.endsWith('\n') ? part : `${part}\n`))
    .join('');
}
