/** What a tool is: its name and arguments, and how a call of it is carried out. */
import type { RunLimits } from '../sandbox/limits.ts';

/** The arguments of a call, already checked against the tool's schema. */
export type Arguments = Readonly<Record<string, unknown>>;

/** A program to run in the sandbox. */
export interface CommandPlan {
  kind: 'command';
  command: readonly string[];
  stdin?: string;
  /** It starts the runner's own Node. */
  needsNode?: true;
}

/** A request that the runner makes itself: no program of the caller takes part. */
export interface FetchPlan {
  kind: 'fetch';
  url: string;
  method: 'GET' | 'HEAD';
}

type Plan = CommandPlan | FetchPlan;

export interface Tool {
  name: string;
  description: string;
  /** JSON Schema. */
  schema: Readonly<Record<string, unknown>>;
  /** A repeated run does nothing that the first one has not done. */
  idempotent: boolean;
  /** It changes nothing, not even its workspace. */
  readOnly: boolean;
  /** Its runs get a connection to the proxy. */
  network: boolean;
  limits: RunLimits;
  plan(given: Arguments): Plan;
}
