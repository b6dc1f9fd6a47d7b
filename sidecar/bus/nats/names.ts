/**
 * Names of streams and subjects on the NATS server. Every name from outside becomes one token of a subject.
 *
 *     stream                 subject                                    holds
 *     OUTRIGGER_KEYS         outrigger.keys.PUBLISHER.KEY               a task's state and its result
 *     OUTRIGGER_QUEUE_TYPE   outrigger.tasks.TYPE.LANE.CALLER.PUBLISHER what waits, and what runs
 *     OUTRIGGER_CHUNKS       outrigger.chunks.PUBLISHER.KEY.GENERATION  messages of runs
 *     OUTRIGGER_DEAD         outrigger.dead.TYPE.PUBLISHER.KEY          requests of dead tasks
 *     OUTRIGGER_REQUESTS     outrigger.requests.PUBLISHER.KEY.ID        requests above a message's limit, in parts
 *     OUTRIGGER_RESULTS      outrigger.results.PUBLISHER.KEY.ID         results above it, in parts
 *     OUTRIGGER_CONSUMERS    outrigger.consumers.TYPE.INSTANCE          sidecars that take tasks
 *                            outrigger.attending.SIDECAR                sidecars on which callers wait
 *     OUTRIGGER_JOURNAL_NAME outrigger.journal.NAME.TASK.KIND           answers of models (`journal/nats/`)
 *     OUTRIGGER_SHARES_NAME  outrigger.shares.NAME.COUNTER.WINDOW       what replicas of a service have used
 *
 * The server itself publishes what it has stored, to whoever listens: `outrigger.wake.TYPE.LANE` that a task waits,
 * `outrigger.watch.PUBLISHER.KEY.state` and `….chunks` what happens to a task. A cancel is told to the holder at
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

/** The sidecars of this name keep answers of models here (`journal/nats/`): no other may read them. */
export const journalStream = (name: string): string => `OUTRIGGER_JOURNAL_${encodeToken(name)}`;
/** `kind` is `run` or `answer`; `*` stands for all. */
export const journalSubject = (name: string, task: string, kind: 'run' | 'answer' | '*'): string =>
  `outrigger.journal.${encodeToken(name)}.${task}.${kind}`;

/** What the replicas of this name share: limits and budgets of the callers of a service. */
export const sharesStream = (name: string): string => `OUTRIGGER_SHARES_${encodeToken(name)}`;
export const sharesSubjects = (name: string): string => `outrigger.shares.${encodeToken(name)}`;

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

/** The publisher and the key in the subject of a dead letter. */
export function nameOfDead(subject: string): TaskName {
  const [, , , publisher = EMPTY, key = EMPTY] = subject.split('.', 5);
  return { publisher: decodeToken(publisher), key: decodeToken(key) };
}

/** The lane of a task's subject. */
export const laneOfSubject = (subject: string): number => Number(subject.split('.', 4)[3]);

function laneOf(caller: string): number {
  return createHash('sha256').update(caller).digest()[0]! % LANES;
}

/** A task is named by its key, among the tasks of its publisher. */
export interface TaskName {
  readonly publisher: string;
  readonly key: string;
}

const named = ({ publisher, key }: TaskName): string => `${encodeToken(publisher)}.${encodeToken(key)}`;

export const keySubject = (name: TaskName): string => `outrigger.keys.${named(name)}`;
/** The key of whichever publisher. */
export const keySubjects = (key: string): string => `outrigger.keys.*.${encodeToken(key)}`;
/** All keys of a publisher. */
export const publishersKeys = (publisher: string): string => `outrigger.keys.${encodeToken(publisher)}.*`;
export const chunkSubject = (name: TaskName, generation: number): string =>
  `outrigger.chunks.${named(name)}.${generation}`;
export const deadSubject = (agentType: string, name: TaskName): string =>
  `outrigger.dead.${encodeToken(agentType)}.${named(name)}`;
export const deadSubjects = (agentType: string): string => `outrigger.dead.${encodeToken(agentType)}.*.*`;
export const requestSubject = (name: TaskName, id: string): string =>
  `outrigger.requests.${named(name)}.${id}`;
export const resultSubject = (name: TaskName, id: string): string => `outrigger.results.${named(name)}.${id}`;

/** The publisher and the key in the subject of a key, a request, a result or a chunk, or in what is told of a task. */
export function nameOf(subject: string): TaskName {
  const [, , publisher = EMPTY, key = EMPTY] = subject.split('.', 4);
  return { publisher: decodeToken(publisher), key: decodeToken(key) };
}

export const consumerSubject = (agentType: string, instance: string): string =>
  `outrigger.consumers.${encodeToken(agentType)}.${encodeToken(instance)}`;
export const attendingSubject = (sidecar: string): string => `outrigger.attending.${encodeToken(sidecar)}`;
export const wakeSubjects = (agentType: string): string => `outrigger.wake.${encodeToken(agentType)}.*`;
export const wakeSubject = (agentType: string, lane: number): string =>
  `outrigger.wake.${encodeToken(agentType)}.${lane}`;
/** @param publisher undefined for whichever */
export const watchSubjects = (publisher: string | undefined, key: string): string =>
  `outrigger.watch.${publisher === undefined ? '*' : encodeToken(publisher)}.${encodeToken(key)}.*`;
export const cancelSubject = (log: string): string => `outrigger.cancel.${log}`;

/** The last token of a subject. */
export function lastToken(subject: string): string {
  return subject.slice(subject.lastIndexOf('.') + 1);
}

const EMPTY = '%';

/** The sidecar that may store it sweeps; its token is no agent type. */
export const SWEEP_SUBJECT = `outrigger.consumers.${EMPTY}.sweep`;

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

function decodeToken(token: string): string {
  if (token === EMPTY) return '';
  try {
    return decodeURIComponent(token);
  } catch {
    return token;
  }
}
