/**
 * Names of streams and subjects on the NATS server. Every name from outside becomes one token of a subject.
 *
 *     stream                 subject                                    holds
 *     OUTRIGGER_KEYS         outrigger.keys.KEY                         a task's state and its result
 *     OUTRIGGER_QUEUE_TYPE   outrigger.tasks.TYPE.LANE.CALLER.PUBLISHER what waits, and what runs
 *     OUTRIGGER_CHUNKS       outrigger.chunks.KEY.GENERATION            messages of runs
 *     OUTRIGGER_DEAD         outrigger.dead.TYPE.KEY                    requests of dead tasks
 *     OUTRIGGER_REQUESTS     outrigger.requests.KEY.ID                  requests above a message's limit, in parts
 *     OUTRIGGER_RESULTS      outrigger.results.KEY.ID                   results above it, in parts
 *     OUTRIGGER_CONSUMERS    outrigger.consumers.TYPE.INSTANCE          sidecars that take tasks
 *
 * The server itself publishes what it has stored, to whoever listens: `outrigger.wake.TYPE.LANE` that a task waits,
 * `outrigger.watch.KEY.state` and `outrigger.watch.KEY.chunks` what happens to a task. A cancel is told to the holder at
 * `outrigger.cancel.LOG`.
 */
import { createHash } from 'node:crypto';

export const KEYS = 'OUTRIGGER_KEYS';
export const CHUNKS = 'OUTRIGGER_CHUNKS';
export const DEAD = 'OUTRIGGER_DEAD';
export const REQUESTS = 'OUTRIGGER_REQUESTS';
export const RESULTS = 'OUTRIGGER_RESULTS';
export const CONSUMERS = 'OUTRIGGER_CONSUMERS';
const QUEUE_PREFIX = 'OUTRIGGER_QUEUE_';

/** Callers are spread over so many lanes; a lane is one consumer on the server, and lanes are served in turns. */
export const LANES = 16;

export const queueStream = (agentType: string): string => QUEUE_PREFIX + encodeToken(agentType);

/** The agent type of a queue's stream; undefined for another stream. */
export function agentTypeOf(stream: string): string | undefined {
  return stream.startsWith(QUEUE_PREFIX) ? decodeToken(stream.slice(QUEUE_PREFIX.length)) : undefined;
}

export const laneConsumer = (lane: number): string => `LANE_${lane}`;
export const laneSubjects = (agentType: string, lane: number): string =>
  `outrigger.tasks.${encodeToken(agentType)}.${lane}.>`;
export const queueSubjects = (agentType: string): string => `outrigger.tasks.${encodeToken(agentType)}.*.*.*`;
export const taskSubject = (agentType: string, caller: string, publisher: string): string =>
  `outrigger.tasks.${encodeToken(agentType)}.${laneOf(caller)}.${encodeToken(caller)}.${encodeToken(publisher)}`;

/** The caller and the publisher of a task's subject; the server has checked that the publisher may use it. */
export function partiesOf(subject: string): { readonly caller: string; readonly publisher: string } {
  const tokens = subject.split('.');
  return { caller: decodeToken(tokens[4] ?? EMPTY), publisher: decodeToken(tokens[5] ?? EMPTY) };
}

function laneOf(caller: string): number {
  return createHash('sha256').update(caller).digest()[0]! % LANES;
}

export const keySubject = (key: string): string => `outrigger.keys.${encodeToken(key)}`;
export const chunkSubject = (key: string, generation: number): string =>
  `outrigger.chunks.${encodeToken(key)}.${generation}`;
export const deadSubject = (agentType: string, key: string): string =>
  `outrigger.dead.${encodeToken(agentType)}.${encodeToken(key)}`;
export const requestSubject = (key: string, id: string): string =>
  `outrigger.requests.${encodeToken(key)}.${id}`;
export const resultSubject = (key: string, id: string): string =>
  `outrigger.results.${encodeToken(key)}.${id}`;
export const consumerSubject = (agentType: string, instance: string): string =>
  `outrigger.consumers.${encodeToken(agentType)}.${encodeToken(instance)}`;
export const wakeSubjects = (agentType: string): string => `outrigger.wake.${encodeToken(agentType)}.*`;
export const wakeSubject = (agentType: string, lane: number): string =>
  `outrigger.wake.${encodeToken(agentType)}.${lane}`;
export const watchSubjects = (key: string): string => `outrigger.watch.${encodeToken(key)}.*`;
export const cancelSubject = (log: string): string => `outrigger.cancel.${log}`;

/** The last token of a subject. */
export function lastToken(subject: string): string {
  return subject.slice(subject.lastIndexOf('.') + 1);
}

const EMPTY = '%';

/** A text as one token of a subject, or as a part of a stream's name; {@link decodeToken} gives it back. */
export function encodeToken(text: string): string {
  if (/^[A-Za-z0-9_-]+$/.test(text)) return text;
  if (text === '') return EMPTY;
  let token = '';
  for (const byte of Buffer.from(text)) {
    const char = String.fromCharCode(byte);
    token += /[A-Za-z0-9_-]/.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return token;
}

export function decodeToken(token: string): string {
  if (token === EMPTY) return '';
  try {
    return decodeURIComponent(token);
  } catch {
    return token;
  }
}
