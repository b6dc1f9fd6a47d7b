/** Tells which addresses that the app calls hide the pods behind them: the sidecar can only balance over what DNS shows. */
import type { PodAnnotations } from './annotations.ts';
import type { Target } from './app-addresses.ts';
import { at, type JsonObject, objectAt, stringAt } from './json.ts';
import { doubt, left, type Note, shown } from './notes.ts';
import { asksForName } from './service-retarget.ts';
import { portsOf } from './service-target.ts';
import { PORTS } from './settings.ts';
import { inOneNamespace, namespaceOf } from './surroundings.ts';

const LOSSES = "the sidecar can't balance over its pods, eject one, or retry at another";
const REMEDY = `add a headless one (clusterIP: None) for the same pods, and call it at the pods' port, ${PORTS.inbound} where they have a sidecar; or read its EndpointSlices (docs/tls.md)`;

/** A pod with the annotation `endpoint-slices` finds the pods by the Kubernetes API, so nothing is told of it. */
export function targetNotes(
  targets: readonly Target[],
  services: readonly JsonObject[],
  namespace: string | undefined,
  { endpointSlices }: PodAnnotations,
): Note[] {
  if (endpointSlices) return [];
  const notes: Note[] = [];
  const unseen: string[] = [];
  for (const { address } of targets) {
    const [, host = '', port = ''] = /^([^[\]]+):(\d+)$/.exec(address) ?? [];
    const [name = '', of, svc] = host.split('.');
    if (/^\d+$/.test(name) || (svc !== undefined && svc !== 'svc')) continue;
    const service = services.find(
      (each) =>
        stringAt(objectAt(each, 'metadata'), 'name') === name &&
        inOneNamespace(namespaceOf(each), of ?? namespace),
    );
    if (service !== undefined) notes.push(...notesOf(service, address, Number(port)));
    // A name with one dot may be a host anywhere.
    else if (of === undefined || svc === 'svc') unseen.push(address);
  }
  if (unseen.length > 0)
    notes.push(
      left(
        `nothing here shows the Services behind ${shown(unseen.join(', '))}; where one has an address of its own (is not headless), ${LOSSES}: ${REMEDY}`,
      ),
    );
  return notes;
}

function notesOf(service: JsonObject, address: string, dialled: number): Note[] {
  const spec = objectAt(service, 'spec');
  if (at(spec, 'clusterIP') === 'None' || at(spec, 'type') === 'ExternalName') return [];
  const name = shown(stringAt(objectAt(service, 'metadata'), 'name') ?? '');
  const notes = [
    doubt(`calls to ${address} reach the one address of the Service ${name}, so ${LOSSES}; ${REMEDY}`),
  ];
  const port = portsOf(service).find(({ written }) => written['port'] === dialled);
  if (typeof port?.target === 'number' && !asksForName(service))
    notes.push(
      left(
        `the Service ${name} sends its port ${shown(port.port)} to the number ${port.target}: if its pods have a sidecar, calls go past it; write the port's name as its targetPort`,
      ),
    );
  return notes;
}
