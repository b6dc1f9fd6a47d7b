/** Checks of the bus that span several settings. */
import { busPlace } from '../bus/bus-url.ts';
import { parseDurationMs } from '../settings/duration.ts';
import type { Finding, Path } from './problems.ts';
import type { Notice } from './provider-environment.ts';
import type { FileConfig } from './schema.ts';

const MIN_LEASE_MS = 1_000;
const MAX_LEASE_MS = 600_000;

/** The contradictions of the section `bus` itself, and with who may call the agent. Files are checked elsewhere. */
export function checkBus(file: FileConfig): Finding[] {
  const { consume, ...bus } = file.bus;
  const findings: Finding[] = [];
  const say = (path: Path, message: string, remedy: string) =>
    findings.push({ path: ['bus', ...path], part: 'value', message, remedy });
  const leaseMs = parseDurationMs(consume.lease)!;
  if (leaseMs < MIN_LEASE_MS)
    say(['consume', 'lease'], 'is too short to be extended in time', 'write at least 1s; 15s suits most');
  if (leaseMs > MAX_LEASE_MS)
    say(['consume', 'lease'], 'would leave the tasks of a killed sidecar for that long', 'write at most 10m');
  if (parseDurationMs(consume.retry_delay.base)! > parseDurationMs(consume.retry_delay.max)!)
    say(['consume', 'retry_delay', 'base'], 'is longer than max', 'raise max or lower base');
  for (const [index, type] of consume.agent_types.entries())
    if (consume.agent_types.indexOf(type) !== index)
      say(['consume', 'agent_types', index], `appears twice: ${type}`, 'keep one of the two');
  if (bus.url === null) {
    if (consume.agent_types.length > 0)
      say(
        ['consume', 'agent_types'],
        'can be taken from no bus: bus.url is null',
        'set bus.url, or remove them',
      );
    return findings;
  }
  const place = busPlace(bus.url);
  const { cert, key } = bus.tls ?? {};
  if ((cert === undefined) !== (key === undefined))
    say(['tls'], `has a ${cert === undefined ? 'key' : 'cert'} alone`, 'give cert and key, or neither');
  if (place.engine === 'local') {
    if (bus.credentials_file !== null)
      say(['credentials_file'], 'has no use for a file: its permissions decide who opens it', 'remove it');
    if (bus.tls !== undefined)
      say(['tls'], 'has no use for a file: nothing goes over the network', 'remove it');
  }
  findings.push(...checkTrust(file, place.engine));
  return findings;
}

/** What the operator should know of a bus that works. */
export function busNotices(file: FileConfig): Notice[] {
  const { url, consume, trust_publishers: isTrusted } = file.bus;
  if (url === null || consume.agent_types.length === 0) return [];
  const { engine } = busPlace(url);
  if (!isShared(file.bus, engine)) return [];
  const who = engine === 'local' ? 'All who open the file of the bus' : 'All publishers on this NATS';
  const names = isTrusted
    ? 'the names that they write into tasks count as identities (bus.trust_publishers)'
    : 'tasks carry no identity';
  return [{ level: 'info', message: `${who} are one trust domain: ${names}` }];
}

function isShared(bus: FileConfig['bus'], engine: 'local' | 'nats'): boolean {
  return engine === 'local' || (bus.credentials_file === null && bus.tls?.cert === undefined);
}

/** Whoever writes to a shared file, or shares credentials, can name any caller: their names decide nothing then. */
function checkTrust({ bus, inbound }: FileConfig, engine: 'local' | 'nats'): Finding[] {
  if (!isShared(bus, engine) || bus.trust_publishers || bus.consume.agent_types.length === 0) return [];
  const lists: Path[] = [];
  if ((inbound.tls?.allow_identities.length ?? 0) > 0) lists.push(['inbound', 'tls', 'allow_identities']);
  if (inbound.token_budget.from === 'identified') lists.push(['inbound', 'token_budget', 'from']);
  const why = engine === 'local' ? 'whoever opens the file' : 'who publishes without credentials of its own';
  return lists.map((path) => ({
    path,
    part: 'value',
    message: `can not be held for tasks of the bus: ${why} can write any name into them`,
    remedy:
      engine === 'local'
        ? 'set bus.trust_publishers: true when all its users may, or use NATS with credentials for each'
        : 'give each sidecar bus.credentials_file, or set bus.trust_publishers: true when all publishers may',
  }));
}
