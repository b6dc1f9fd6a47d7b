/** The orchestrator's settings, from environment variables. */
import { parse } from 'yaml';
import { durationMs, type Environment, SettingError, wholeNumber } from '../process/environment.ts';

/** An agent that the model may call. */
export interface CallableAgent {
  /** The name by which the model knows it: `research` becomes the function `ask_research`. */
  readonly name: string;
  /** Tells the model what it does. */
  readonly description: string;
  /** The name by which the sidecar routes; `NAME-agent` by default. */
  readonly authority: string;
  /** The agent type of its tasks; its name by default. */
  readonly agentType: string;
}

export interface OrchestratorSettings {
  /** ORCHESTRATOR_AGENTS: YAML or JSON, name → description, or → `{ description, authority, agent_type }`. */
  readonly agents: readonly CallableAgent[];
  readonly limits: Limits;
}

export interface Limits {
  /** ORCHESTRATOR_MAX_STEPS: the calls of agents and tools for one task, together. */
  readonly steps: number;
  /** ORCHESTRATOR_MAX_PARALLEL: how many of them run at a time. */
  readonly parallel: number;
  /** ORCHESTRATOR_MAX_DEPTH: how deep orchestrators may call each other; the deepest one answers by itself. */
  readonly depth: number;
  /** ORCHESTRATOR_STEP_PERCENT: the part of a task's token budget that one step gets at most. */
  readonly stepPercent: number;
  /** ORCHESTRATOR_WALL_TIME: after this, or 85 % of the caller's time, no step begins or goes on. */
  readonly wallMs: number;
  /** ORCHESTRATOR_STEP_TIME: the most that one step may take. */
  readonly stepMs: number;
  /** ORCHESTRATOR_MAX_RESULT_CHARS: what the model reads of one result. */
  readonly resultChars: number;
}

const usualAgents: Readonly<Record<string, string>> = {
  research: 'Answers a question from what is known, with evidence and what is still open.',
  writing: 'Turns notes or findings into finished prose.',
  code: 'Writes a program, and says how to run and to test it.',
};

const mostAgents = 100;
const mostDescriptionChars = 2000;

/** @throws SettingError with the name of the invalid variable */
export function readOrchestratorSettings(environment: Environment): OrchestratorSettings {
  const number = (name: string, byDefault: number, range: readonly [number, number]) =>
    wholeNumber(environment, name, byDefault, range);
  return {
    agents: readAgents(environment['ORCHESTRATOR_AGENTS']),
    limits: {
      steps: number('ORCHESTRATOR_MAX_STEPS', 24, [1, 1000]),
      parallel: number('ORCHESTRATOR_MAX_PARALLEL', 8, [1, 256]),
      depth: number('ORCHESTRATOR_MAX_DEPTH', 3, [1, 16]),
      stepPercent: number('ORCHESTRATOR_STEP_PERCENT', 25, [1, 100]),
      wallMs: durationMs(environment, 'ORCHESTRATOR_WALL_TIME', 600_000),
      stepMs: durationMs(environment, 'ORCHESTRATOR_STEP_TIME', 300_000),
      resultChars: number('ORCHESTRATOR_MAX_RESULT_CHARS', 20_000, [100, 1_000_000]),
    },
  };
}

function readAgents(text: string | undefined): CallableAgent[] {
  let given: unknown = usualAgents;
  if (text !== undefined && text.trim() !== '') {
    try {
      given = parse(text);
    } catch (error) {
      throw wrong(`is no YAML: ${(error as Error).message.split('\n', 1)[0]}`);
    }
  }
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw wrong('must map names of agents to what they do');
  const entries = Object.entries(given);
  if (entries.length > mostAgents)
    throw wrong(`has ${entries.length} agents; at most ${mostAgents} are possible`);
  return entries.map(([name, value]) => readAgent(name, value));
}

function readAgent(name: string, value: unknown): CallableAgent {
  // OpenAI allows names of functions up to 64 characters.
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_-]{0,55}$/.test(name))
    throw wrong(`has the name "${name.slice(0, 64)}"; take letters, digits, _ and -`);
  const fields = typeof value === 'string' ? { description: value } : value;
  const { description, authority, agent_type, ...others } = (fields ?? {}) as Record<string, unknown>;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined)
    throw wrong(`has "${unknown}" at ${name}; its keys are description, authority and agent_type`);
  const optional = (key: string, given: unknown, byDefault: string): string => {
    if (given === undefined) return byDefault;
    if (typeof given === 'string' && /^[\x21-\x7e]{1,256}$/.test(given)) return given;
    throw wrong(`needs a word as ${key} of ${name}`);
  };
  if (typeof description !== 'string' || description === '' || description.length > mostDescriptionChars)
    throw wrong(`needs a description of ${name}, of at most ${mostDescriptionChars} characters`);
  return {
    name,
    description,
    authority: optional('authority', authority, `${name}-agent`),
    agentType: optional('agent_type', agent_type, name),
  };
}

function wrong(what: string): SettingError {
  return new SettingError(`ORCHESTRATOR_AGENTS ${what}`);
}
