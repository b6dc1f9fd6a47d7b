/** The gateway's settings, from environment variables. */
import { address, durationMs, type Environment, SettingError, wholeNumber } from '../process/environment.ts';

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
  /** Agent type → address. */
  agents: ReadonlyMap<string, string>;
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
    tasks: address(environment, 'GATEWAY_TASKS_ADDR', agents.get(usualAgents[0]!) ?? sidecar),
    links: readLinks(environment['GATEWAY_LINKS'] ?? ''),
    healthListen: environment['GATEWAY_HEALTH_LISTEN']
      ? address(environment, 'GATEWAY_HEALTH_LISTEN', '')
      : '',
    localSystem: environment['GATEWAY_LOCAL_SYSTEM'] ?? '',
  };
}

/** RESEARCH_AGENT_ADDR and so on; another variable of this form adds an agent type. */
function readAgents(environment: Environment): Map<string, string> {
  const agents = new Map(
    usualAgents.map((type) => [type, address(environment, `${type.toUpperCase()}_AGENT_ADDR`, sidecar)]),
  );
  for (const name of Object.keys(environment)) {
    const type = /^([A-Z][A-Z0-9_]*)_AGENT_ADDR$/.exec(name)?.[1];
    if (type !== undefined) {
      agents.set(type.toLowerCase().replaceAll('_', '-'), address(environment, name, sidecar));
    }
  }
  return agents;
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
