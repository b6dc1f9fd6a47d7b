/** The gateway's settings, from environment variables. */
import { parse } from 'yaml';
import { address, durationMs, type Environment, SettingError, wholeNumber } from '../process/environment.ts';
import type { AgentAddress } from './registry.ts';

export interface GatewaySettings {
  /** HOST */
  host: string;
  /** GATEWAY_HOSTS, `name,…`: names besides localhost under which a gateway on a loopback address answers. */
  names: readonly string[];
  /** PORT; 0 for any free one. */
  port: number;
  /** GATEWAY_TIMEOUT: the deadline of a task, streamed or not. */
  timeoutMs: number;
  /** GATEWAY_DRAIN_TIMEOUT: the time for running requests after SIGTERM. */
  drainTimeoutMs: number;
  /** GATEWAY_MAX_INPUT_CHARS: the longest input of a task. */
  maxInputChars: number;
  /**
   * GATEWAY_AGENTS, YAML or JSON: agent type → the name by which the sidecar routes, or → `{ address, authority }`. Without it, and
   * without GATEWAY_DISCOVER, there are research, writing and code. NAME_AGENT_ADDR gives, or adds, the address of a type.
   */
  agents: ReadonlyMap<string, AgentAddress>;
  /** GATEWAY_DISCOVER: the admin URL of a sidecar, whose clusters are agents, too; '' for none. */
  discover: string;
  /** GATEWAY_DEFAULT_AGENT: the type of a task that names none. */
  defaultAgent: string;
  /** GATEWAY_TASKS_ADDR: a sidecar that serves outrigger.v1.Tasks; by default the one that the agents' calls go to. */
  tasks: string;
  /** GATEWAY_LINKS, `name=url,…`: further links on the page at `/`. */
  links: readonly { name: string; url: string }[];
  /** GATEWAY_HEALTH_LISTEN: the address of the gRPC health service for its sidecar; '' for none. */
  healthListen: string;
  /** GATEWAY_LOCAL_SYSTEM: the socket of a local system, whose replicas the page shows and breaks; '' for none. */
  localSystem: string;
}

/** The default agents, at the address of the gateway's own sidecar, which routes by authority. */
const usualAgents = ['research', 'writing', 'code'];
const sidecar = '127.0.0.1:15001';

/** @throws SettingError with the name of the invalid variable */
export function readGatewaySettings(environment: Environment): GatewaySettings {
  const agents = readAgents(environment);
  return {
    host: environment['HOST'] || '127.0.0.1',
    names: listOf(environment['GATEWAY_HOSTS'] ?? '').map((name) => name.toLowerCase()),
    port: wholeNumber(environment, 'PORT', 8080, [0, 65_535]),
    timeoutMs: durationMs(environment, 'GATEWAY_TIMEOUT', 60_000),
    drainTimeoutMs: durationMs(environment, 'GATEWAY_DRAIN_TIMEOUT', 25_000),
    maxInputChars: wholeNumber(environment, 'GATEWAY_MAX_INPUT_CHARS', 1_000_000, [1, 10_000_000]),
    agents,
    discover: readDiscover(environment['GATEWAY_DISCOVER'] ?? ''),
    defaultAgent:
      environment['GATEWAY_DEFAULT_AGENT'] ||
      (agents.has(usualAgents[0]!) ? usualAgents[0]! : ([...agents.keys()][0] ?? usualAgents[0]!)),
    tasks: address(environment, 'GATEWAY_TASKS_ADDR', [...agents.values()][0]?.address ?? sidecar),
    links: readLinks(environment['GATEWAY_LINKS'] ?? ''),
    healthListen: environment['GATEWAY_HEALTH_LISTEN']
      ? address(environment, 'GATEWAY_HEALTH_LISTEN', '')
      : '',
    localSystem: environment['GATEWAY_LOCAL_SYSTEM'] ?? '',
  };
}

/** GATEWAY_AGENTS or the usual ones; RESEARCH_AGENT_ADDR and its like give or add addresses. */
function readAgents(environment: Environment): Map<string, AgentAddress> {
  const configured = environment['GATEWAY_AGENTS'] ?? '';
  const discovers = Boolean(environment['GATEWAY_DISCOVER']);
  const agents = configured.trim() === '' ? new Map<string, AgentAddress>() : parseAgents(configured);
  const usual = agents.size === 0 && !discovers ? usualAgents : [];
  for (const type of usual) agents.set(type, { address: sidecar, authority: `${type}-agent` });
  for (const name of Object.keys(environment)) {
    const type = /^([A-Z][A-Z0-9_]*)_AGENT_ADDR$/.exec(name)?.[1]?.toLowerCase().replaceAll('_', '-');
    if (type === undefined || environment[name] === '') continue;
    const authority = agents.get(type)?.authority ?? `${type}-agent`;
    agents.set(type, { address: address(environment, name, sidecar), authority });
  }
  return agents;
}

const mostAgents = 1000;

function parseAgents(text: string): Map<string, AgentAddress> {
  const wrong = (what: string) => new SettingError(`GATEWAY_AGENTS ${what}`);
  let given: unknown;
  try {
    given = parse(text);
  } catch (error) {
    throw wrong(`is no YAML: ${(error as Error).message.split('\n', 1)[0]}`);
  }
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw wrong('must map agent types to the names by which the sidecar routes');
  const entries = Object.entries(given);
  if (entries.length > mostAgents)
    throw wrong(`has ${entries.length} types; at most ${mostAgents} are possible`);
  return new Map(
    entries.map(([type, value]) => {
      if (!/^[\x21-\x7e]{1,128}$/.test(type))
        throw wrong(`has a type that is no word: "${type.slice(0, 64)}"`);
      const fields = typeof value === 'string' ? { authority: value } : (value ?? {});
      if (typeof fields !== 'object') throw wrong(`needs a name, or address and authority, at ${type}`);
      const {
        address: at = sidecar,
        authority = `${type}-agent`,
        ...others
      } = fields as Record<string, unknown>;
      const [unknown] = Object.keys(others);
      if (unknown !== undefined)
        throw wrong(`has "${unknown}" at ${type}; its keys are address and authority`);
      if (typeof authority !== 'string' || !/^[\x21-\x7e]{1,253}$/.test(authority))
        throw wrong(`needs a name as authority of ${type}`);
      const name = `GATEWAY_AGENTS, address of ${type},`;
      return [type, { address: address({ [name]: String(at) }, name, sidecar), authority }];
    }),
  );
}

function readDiscover(text: string): string {
  if (text === '' || /^https?:\/\/[^\s/]+\/?$/.test(text)) return text.replace(/\/$/, '');
  throw new SettingError(
    `GATEWAY_DISCOVER must be the admin address of a sidecar, http://host:port, not "${text}"`,
  );
}

function readLinks(text: string): { name: string; url: string }[] {
  return listOf(text).map((part) => {
    const [name = '', url = ''] = part.split(/=(.*)/s).map((side) => side.trim());
    if (!/^https?:\/\//.test(url))
      throw new SettingError(`GATEWAY_LINKS must be name=http://…, not "${part}"`);
    return { name, url };
  });
}

function listOf(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}
