/** Checks that span several settings: contradictions, and missing files. */
import { type Address, NO_APP, readAddress } from '../net/address.ts';
import { overlaps, reaches } from '../net/reach.ts';
import { parseDurationMs } from '../settings/duration.ts';
import { checkBus } from './bus-relations.ts';
import { checkCertificates, checkFiles, finding } from './file-checks.ts';
import { checkJournal } from './journal-relations.ts';
import { checkLlm } from './llm-relations.ts';
import { checkService } from './llm-service.ts';
import { checkMcp } from './mcp-relations.ts';
import { type Finding, nearest, type Path } from './problems.ts';
import type { FileCluster, FileConfig } from './schema.ts';

/** Every contradiction in a configuration whose values are valid one by one. */
export function findContradictions(file: FileConfig): readonly Finding[] {
  return [
    ...checkListeners(file),
    ...checkRoutes(file),
    ...Object.entries(file.outbound.clusters).flatMap(([name, cluster]) => checkCluster(name, cluster, file)),
    ...checkLlm(file),
    ...checkMcp(file),
    ...checkService(file),
    ...checkInboundTls(file),
    ...checkTokenBudget(file),
    ...checkTimeLimits(['inbound'], file.inbound),
    ...checkBus(file),
    ...checkBusFiles(file),
    ...checkJournal(file),
  ];
}

const LISTENERS = ['inbound', 'outbound', 'llm', 'admin', 'metrics', 'health'] as const;

/** The listeners that there are with this configuration. */
function listenersOf({ mcp }: FileConfig): readonly ((typeof LISTENERS)[number] | 'mcp')[] {
  return Object.keys(mcp.servers).length > 0 ? [...LISTENERS, 'mcp'] : LISTENERS;
}

function checkListeners(file: FileConfig): Finding[] {
  const findings: Finding[] = [];
  const listeners = listenersOf(file);
  for (const [index, name] of listeners.entries()) {
    const taken = listeners.slice(0, index).find((other) => {
      return overlaps(readAddress(file[other].listen), readAddress(file[name].listen));
    });
    if (taken === undefined) continue;
    const remedy = 'give each listener a port of its own';
    findings.push(finding([name, 'listen'], `is also the address of ${taken}.listen`, remedy));
  }
  findings.push(...checkTargets(file));
  const { app, listen } = file.inbound;
  if (app !== NO_APP && reaches(readAddress(app), readAddress(listen))) {
    const remedy = 'write where the agent itself listens, such as 127.0.0.1:50051';
    findings.push(finding(['inbound', 'app'], 'is our own inbound.listen: calls would loop', remedy));
  }
  return findings;
}

function checkTargets({ outbound, ...file }: FileConfig): Finding[] {
  const others = { ...file, outbound };
  const taken: [string, Address][] = listenersOf(others).map((name) => [
    `${name}.listen`,
    readAddress(others[name].listen),
  ]);
  return outbound.targets.flatMap(({ listen, address }, index) => {
    const at = readAddress(listen);
    const path = ['outbound', 'targets', index];
    const clash = taken.find(([, other]) => overlaps(other, at))?.[0];
    taken.push([`outbound.targets.${index}.listen`, at]);
    const findings: Finding[] = [];
    if (clash !== undefined)
      findings.push(
        finding(
          [...path, 'listen'],
          `is also the address of ${clash}`,
          'give each listener a port of its own',
        ),
      );
    const loop = [outbound.listen, ...outbound.targets.map((target) => target.listen)];
    if (loop.some((own) => reaches(readAddress(address), readAddress(own))))
      findings.push(
        finding(
          [...path, 'address'],
          'is a port of our own outbound side: calls would loop',
          'write the address of the agent that the app calls',
        ),
      );
    return findings;
  });
}

function checkRoutes(file: FileConfig): Finding[] {
  const names = Object.keys(file.outbound.clusters);
  return file.outbound.routes.flatMap((route, index) => {
    if (Object.hasOwn(file.outbound.clusters, route.cluster)) return [];
    const close = nearest(route.cluster, names);
    const known = names.length === 0 ? 'there are none yet' : `there are ${names.slice(0, 20).join(', ')}`;
    const remedy = close === undefined ? `add it to outbound.clusters; ${known}` : `did you mean ${close}?`;
    const path = ['outbound', 'routes', index, 'cluster'];
    return [finding(path, `there is no cluster ${JSON.stringify(route.cluster)}`, remedy)];
  });
}

function checkCluster(name: string, cluster: FileCluster, file: FileConfig): Finding[] {
  const path = ['outbound', 'clusters', name];
  const findings: Finding[] = [];
  const say = (key: Path, message: string, remedy: string) =>
    findings.push(finding([...path, ...key], message, remedy));
  const { endpoints, dns, kubernetes, bus, retry, outlier_detection: outlier } = cluster;
  if (name === 'app') say([], "has the name of the inbound side's own cluster", 'choose another name');
  if ((endpoints ?? dns ?? kubernetes ?? bus) === undefined) {
    say(
      [],
      'has no endpoints',
      'give it endpoints: [host:port, …], dns: name:port, kubernetes, or bus: AGENT_TYPE',
    );
  }
  if (bus !== undefined) {
    for (const [key, value] of Object.entries({ endpoints, dns, kubernetes, tls: cluster.tls }))
      if (value !== undefined)
        say(
          [key],
          'can not stand beside bus',
          'keep one of the two: the tasks of a bus cluster go through the bus',
        );
    if (cluster.agent_types.length > 0)
      say(
        ['agent_types'],
        'can not stand beside bus',
        'give each agent type a cluster with its bus queue: the bus keeps them apart',
      );
    if (file.bus.url === null)
      say(
        ['bus'],
        'needs a bus, and bus.url is null',
        'set bus.url: file:/PATH for one machine, or nats://HOST:4222',
      );
  }
  for (const [index, type] of cluster.agent_types.entries())
    if (cluster.agent_types.indexOf(type) !== index)
      say(['agent_types', index], `appears twice: ${type}`, 'keep one of the two');
  if (kubernetes !== undefined && (endpoints ?? dns) !== undefined) {
    say(['kubernetes'], 'can not stand beside endpoints or dns', 'keep one of them');
  }
  if (endpoints !== undefined && dns !== undefined) {
    say(['dns'], 'can not stand beside endpoints', 'keep one of the two');
  }
  for (const [index, endpoint] of (endpoints ?? []).entries()) {
    if (endpoints!.indexOf(endpoint) !== index) {
      say(['endpoints', index], `appears twice: ${endpoint}`, 'keep one of the two');
    }
    if (reaches(readAddress(endpoint), readAddress(file.outbound.listen))) {
      const remedy = "write the address of the other side's inbound listener";
      say(['endpoints', index], 'is our own outbound.listen: calls would loop', remedy);
    }
  }
  if (parseDurationMs(retry.backoff.base)! > parseDurationMs(retry.backoff.max)!) {
    say(['retry', 'backoff', 'base'], 'is longer than max', 'raise max or lower base');
  }
  if (parseDurationMs(outlier.base_ejection_time)! > parseDurationMs(outlier.max_ejection_time)!) {
    const remedy = 'raise max_ejection_time or lower base_ejection_time';
    say(['outlier_detection', 'base_ejection_time'], 'is longer than max_ejection_time', remedy);
  }
  // A task on the bus has no `timeout` that its `max_timeout` could be shorter than.
  if (bus === undefined) findings.push(...checkTimeLimits(path, cluster));
  const { cert, key } = cluster.tls ?? {};
  if ((cert === undefined) !== (key === undefined)) {
    say(['tls'], `has a ${cert === undefined ? 'key' : 'cert'} alone`, 'give cert and key, or neither');
  }
  findings.push(
    ...checkCertificates([...path, 'tls'], cluster.tls ?? {}, { ca: 'ca', cert: 'cert', key: 'key' }),
  );
  return findings;
}

/** A caller without a deadline would have more time than any caller with one. */
function checkTimeLimits(path: Path, limits: Pick<FileCluster, 'timeout' | 'max_timeout'>): Finding[] {
  const maxMs = parseDurationMs(limits.max_timeout)!;
  if (maxMs === 0 || parseDurationMs(limits.timeout)! <= maxMs) return [];
  const message = `is shorter than timeout, which is ${limits.timeout}`;
  return [finding([...path, 'max_timeout'], message, 'lower timeout to it as well, or raise max_timeout')];
}

function checkTokenBudget({ inbound: { tls, token_budget: budget } }: FileConfig): Finding[] {
  const path = ['inbound', 'token_budget'];
  if (budget.from === 'identified' && tls?.client_ca === undefined) {
    const remedy = 'give inbound.tls.client_ca, which verifies the certificates of callers, or write nobody';
    return [finding([...path, 'from'], 'admits no caller without inbound.tls.client_ca', remedy)];
  }
  if (budget.from !== 'identified' && budget.allow_identities.length > 0) {
    const remedy = 'write from: identified, or remove it';
    return [finding([...path, 'allow_identities'], `has no effect where from is ${budget.from}`, remedy)];
  }
  return [];
}

function checkInboundTls(file: FileConfig): Finding[] {
  const { tls } = file.inbound;
  if (tls === undefined) return [];
  const path = ['inbound', 'tls'];
  const { cert, key, client_ca } = tls;
  const names = { ca: 'client_ca', cert: 'cert', key: 'key' } as const;
  const findings = checkCertificates(path, { cert, key, client_ca }, names);
  if (file.inbound.listen.startsWith('unix:')) {
    const remedy = 'remove it: the permissions of the file decide who may connect';
    findings.push(finding(path, 'can not be used on a unix socket', remedy));
  }
  if (tls.allow_identities.length > 0 && client_ca === undefined) {
    const remedy = 'give client_ca, which verifies the certificates of callers';
    findings.push(finding([...path, 'allow_identities'], 'can not be checked without client_ca', remedy));
  }
  return findings;
}

function checkBusFiles({ bus }: FileConfig): Finding[] {
  const { credentials_file, encrypt_key_file } = bus;
  return [
    ...checkFiles(['bus'], { credentials_file }, ['credentials_file'], 'the credentials that NATS issued'),
    ...checkFiles(['bus'], { encrypt_key_file }, ['encrypt_key_file'], 'a file with keys'),
    ...checkCertificates(['bus', 'tls'], bus.tls ?? {}, { ca: 'ca', cert: 'cert', key: 'key' }),
  ];
}
