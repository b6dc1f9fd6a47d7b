/** An agent's settings, from environment variables. */
import { address, durationMs, type Environment, SettingError, wholeNumber } from '../process/environment.ts';

/** The settings of an agent's process. */
export interface RuntimeSettings {
  /** AGENT_LISTEN: `host:port` or `unix:/path`. */
  listen: string;
  /** AGENT_OUTBOUND: the sidecar's outbound listener, for calls to other agents. */
  outbound: string;
  /** AGENT_TOOLS: the name of the tool runner behind the sidecar, such as `tools-agent`; '' for none. */
  tools: string;
  mcp: McpSettings;
  /** AGENT_DRAIN_TIMEOUT: the time for running tasks after SIGTERM. */
  drainTimeoutMs: number;
  /** AGENT_SLOW_BY: the delay of every task while SIGUSR2 has slowed the agent down; 0 ignores the signal. */
  slowByMs: number;
  model: ModelSettings;
}

export interface McpSettings {
  /** AGENT_MCP: the names of MCP servers behind the sidecar (`mcp.servers`), with commas between them. */
  servers: readonly string[];
  /** OUTRIGGER_MCP_URL: the sidecar's MCP port, with its path. */
  url: string;
}

export interface ModelSettings {
  /** OPENAI_BASE_URL. By default the sidecar's LLM port. */
  baseUrl: string;
  /** OPENAI_API_KEY. The sidecar holds the real key; an agent beside it needs none. */
  apiKey: string;
  /** OPENAI_MODEL. */
  name: string;
  /**
   * OPENAI_MAX_RETRIES: retries by the openai client itself. None by default: the sidecar's LLM listener retries, and
   * both together would multiply the attempts. Without a sidecar, 2 is the client's usual number.
   */
  maxRetries: number;
}

/** The openai client sends this in place of a key. A provider quotes it, and its reader learns that the key is missing. */
const NO_KEY = 'none';

/** The texts that no log and no message may have. */
export function secretsOf({ apiKey }: ModelSettings): readonly string[] {
  return apiKey === NO_KEY ? [] : [apiKey];
}

/** @throws SettingError with the name of the invalid variable */
export function readSettings(environment: Environment): RuntimeSettings {
  return {
    listen: address(environment, 'AGENT_LISTEN', '127.0.0.1:50051'),
    outbound: address(environment, 'AGENT_OUTBOUND', '127.0.0.1:15001'),
    tools: environment['AGENT_TOOLS'] ?? '',
    mcp: {
      servers: readServers(environment['AGENT_MCP'] ?? ''),
      url: (environment['OUTRIGGER_MCP_URL'] || 'http://127.0.0.1:15003/mcp').replace(/\/+$/, ''),
    },
    drainTimeoutMs: durationMs(environment, 'AGENT_DRAIN_TIMEOUT', 25_000),
    slowByMs: durationMs(environment, 'AGENT_SLOW_BY', 0),
    model: {
      baseUrl: environment['OPENAI_BASE_URL'] || 'http://127.0.0.1:15002/v1',
      apiKey: environment['OPENAI_API_KEY'] || NO_KEY,
      name: environment['OPENAI_MODEL'] || 'gpt-4o-mini',
      maxRetries: wholeNumber(environment, 'OPENAI_MAX_RETRIES', 0, [0, 10]),
    },
  };
}

function readServers(text: string): string[] {
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  const wrong = names.find((name) => !/^[A-Za-z0-9._-]{1,64}$/.test(name));
  if (wrong !== undefined)
    throw new SettingError(`AGENT_MCP must be names of mcp.servers such as "tools,tickets", not "${wrong}"`);
  return [...new Set(names)];
}
