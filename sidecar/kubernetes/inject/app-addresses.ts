/**
 * Leads the addresses of agents in an app's environment through the sidecar. A gRPC client sends the address that it
 * dials as its authority, so each address becomes a local port of its own (`outbound.targets`): the sidecar then knows
 * what the app meant, whatever the client. What can't work this way stays, with the reason.
 */
import type { PodAnnotations } from './annotations.ts';
import { at, type JsonObject, numberAt, objectsAt, stringAt } from './json.ts';
import { did, doubt, left, type Note, shown } from './notes.ts';
import type { Ports } from './settings.ts';

/** An entry of `outbound.targets`. */
export interface Target {
  readonly listen: string;
  readonly address: string;
}

export interface AddressPlan {
  readonly targets: readonly Target[];
  /** The new value of a variable of a container; undefined where it stays. */
  readonly valueOf: (container: JsonObject, variable: string, value: string) => string | undefined;
  readonly notes: readonly Note[];
}

/** `RESEARCH_AGENT_ADDR`: the variable with which the gateway and other callers configure the address of an agent. */
const AGENT_ADDRESS = /^[A-Z][A-Z0-9_]*_AGENT_ADDR$/;
/** Names of variables that mostly hold the address of a gRPC server. */
const LIKELY_ADDRESS = /(^|_)(GRPC|AGENT)_?(ADDR(ESS)?|ENDPOINT|TARGET|HOST|URL|SERVER)$/;
export const LOOPBACK = /^([a-z]+:\/\/\/?)?(127\.|localhost\b|\[::1\])/i;
const FIRST_PORT = 15_101;
const MAX_TARGETS = 32;
const ANNOTATION = 'outrigger.dev/outbound-env';
/** Ports whose servers use TLS by custom. A client that uses TLS would refuse the sidecar's plain text. */
const TLS_PORTS = new Set([443, 6443, 8443, 9443]);

export function planAddresses(
  spec: JsonObject,
  { outboundEnv, portOffset }: PodAnnotations,
  ports: Ports,
): AddressPlan {
  const taken = declaredPorts(spec);
  const byAddress = new Map<string, Target>();
  const values = new Map<string, string>();
  const notes: Note[] = [];
  const named = new Set(outboundEnv ?? []);
  const found = new Set<string>();
  let port = FIRST_PORT + portOffset;
  for (const container of objectsAt(spec, 'containers')) {
    for (const entry of objectsAt(container, 'env')) {
      const name = stringAt(entry, 'name') ?? '';
      const value = stringAt(entry, 'value') ?? '';
      const isNamed = named.has(name);
      if (isNamed) found.add(name);
      if (!isNamed && (outboundEnv !== undefined || !AGENT_ADDRESS.test(name))) {
        if (outboundEnv === undefined && LIKELY_ADDRESS.test(name) && readTarget(value) !== undefined)
          notes.push(
            left(
              `${name}: calls to ${shown(value)} bypass the sidecar; if they are gRPC in plain text, add ${ANNOTATION}: ${name}`,
            ),
          );
        continue;
      }
      const why = whyNot(entry, value, container, isNamed);
      if (why !== undefined) {
        if (why !== '') notes.push(left(`${name} stays: ${why}; its calls bypass the sidecar`));
        continue;
      }
      const { prefix, address, rest } = readTarget(value)!;
      let target = byAddress.get(address);
      if (target === undefined) {
        while (taken.has(port) || Object.values(ports).includes(port)) port++;
        if (byAddress.size >= MAX_TARGETS) {
          notes.push(
            left(
              `${name} stays: the pod calls more than ${MAX_TARGETS} addresses; its calls bypass the sidecar`,
            ),
          );
          continue;
        }
        target = { listen: `127.0.0.1:${port++}`, address };
        byAddress.set(address, target);
      }
      values.set(keyOf(container, name, value), prefix + target.listen + rest);
      notes.push(did(`${name}: calls to ${address} go through the sidecar, at ${target.listen}`));
    }
  }
  for (const name of named)
    if (!found.has(name))
      notes.push(doubt(`${ANNOTATION} names ${shown(name)}, which no container of the pod has in its env`));
  return {
    targets: [...byAddress.values()],
    valueOf: (container, variable, value) => values.get(keyOf(container, variable, value)),
    notes,
  };
}

/** Why an address can't lead through the sidecar; '' for one that needs no words, undefined if it can. */
function whyNot(
  entry: JsonObject,
  value: string,
  container: JsonObject,
  isNamed: boolean,
): string | undefined {
  if (at(entry, 'valueFrom') !== undefined) return 'its value comes from elsewhere (valueFrom)';
  if (value === '' || LOOPBACK.test(value)) return '';
  if (value.includes('$(')) return 'its value refers to other variables';
  const target = readTarget(value);
  if (target === undefined)
    return /^[a-z+]+:\/\//i.test(value)
      ? 'its scheme is not one of dns, http, or none'
      : 'it is not one host:port';
  if (isNamed) return undefined;
  if (target.prefix !== '' && /^http:/i.test(target.prefix))
    return `it is a URL; if the app speaks gRPC there, name it in ${ANNOTATION}`;
  if (TLS_PORTS.has(target.port))
    return `port ${target.port} means TLS, which the app would expect of the sidecar`;
  const secured = tlsVariable(container, stringAt(entry, 'name')!);
  return secured === undefined ? undefined : `${secured} tells that the app uses TLS`;
}

/** `host:port`, in the forms that gRPC clients accept for one server. */
function readTarget(
  value: string,
):
  | { readonly prefix: string; readonly address: string; readonly port: number; readonly rest: string }
  | undefined {
  const match =
    /^(dns:\/\/\/|dns:|http:\/\/)?([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\]):(\d{1,5})(\/[\w./-]*)?$/.exec(
      value,
    );
  if (match === null) return undefined;
  const [, prefix = '', host = '', digits = '', rest = ''] = match;
  const port = Number(digits);
  const isUrl = prefix.startsWith('http');
  return port < 1 || port > 65_535 || (rest !== '' && !isUrl)
    ? undefined
    : { prefix, address: `${host}:${port}`, port, rest };
}

/** A variable that tells of TLS for the same server (`WRITING_AGENT_TLS`) or for every gRPC channel. */
function tlsVariable(container: JsonObject, name: string): string | undefined {
  const stem = name.replace(/_ADDR$/, '');
  const isOn = ({ value }: JsonObject): boolean =>
    !/^(0|false|no|off|disabled?|)$/i.test(String(value ?? 'set'));
  return objectsAt(container, 'env')
    .filter(isOn)
    .map((entry) => stringAt(entry, 'name') ?? '')
    .find(
      (other) =>
        /^GRPC_DEFAULT_SSL_ROOTS_FILE_PATH$/.test(other) ||
        (other.startsWith(`${stem}_`) &&
          /_(TLS|MTLS|SSL|SECURE|CA|CERT|CREDENTIALS)(_|$)/.test(other.slice(stem.length))),
    );
}

function declaredPorts(spec: JsonObject): Set<number> {
  const containers = [...objectsAt(spec, 'initContainers'), ...objectsAt(spec, 'containers')];
  return new Set(
    containers.flatMap((container) =>
      objectsAt(container, 'ports').flatMap((port) => [
        numberAt(port, 'containerPort') ?? 0,
        numberAt(port, 'hostPort') ?? 0,
      ]),
    ),
  );
}

function keyOf(container: JsonObject, variable: string, value: string): string {
  return JSON.stringify([stringAt(container, 'name') ?? '', variable, value]);
}
