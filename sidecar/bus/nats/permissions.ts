/**
 * The rules of a NATS server for one sidecar: it publishes tasks under its own name only, and sees to those alone; it reads answers
 * that were meant for it. One that takes tasks sees to those of all publishers. The names of subjects are those of `names.ts`.
 */
import {
  encodeToken,
  journalStream,
  journalSubject,
  KEYS,
  publishersKeys,
  queueStream,
  SWEEP_SUBJECT,
  sharesStream,
  sharesSubjects,
} from './names.ts';

export interface Rights {
  /** The sidecar's name: tasks that it publishes carry it. */
  readonly publisher: string;
  /** Agent types whose tasks it publishes. */
  readonly publishes: readonly string[];
  /** Agent types whose tasks it takes. */
  readonly takes: readonly string[];
  /** Whether it keeps answers of models (`journal.store: bus`). */
  readonly keepsAnswers?: boolean;
  /** Whether it shares limits and budgets of callers with its replicas (`llm.callers`). */
  readonly sharesLimits?: boolean;
}

const STREAMS = ['KEYS', 'CHUNKS', 'DEAD', 'REQUESTS', 'RESULTS', 'CONSUMERS'].map(
  (name) => `OUTRIGGER_${name}`,
);

/** Subjects to which the sidecar may send, and those at which it may listen. */
export function rulesOf({
  publisher,
  publishes,
  takes,
  keepsAnswers = false,
  sharesLimits = false,
}: Rights): {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
} {
  const name = encodeToken(publisher);
  const types = [...new Set([...publishes, ...takes])].sort();
  const queues = types.map(queueStream);
  // Whose tasks it sees to.
  const whose = takes.length > 0 ? '*' : name;
  const ofKeys = takes.length > 0 ? '>' : publishersKeys(publisher);
  const publish = [
    ...[...publishes].sort().map((type) => `outrigger.tasks.${encodeToken(type)}.*.*.${name}`),
    `outrigger.requests.${name}.*.*`,
    `outrigger.keys.${whose}.*`,
    `outrigger.chunks.${whose}.*.*`,
    'outrigger.cancel.*',
    'outrigger.attending.*',
    ...types.map((type) => `outrigger.dead.${encodeToken(type)}.${takes.includes(type) ? '*' : name}.*`),
    '$JS.API.STREAM.NAMES',
    ...[...STREAMS, ...queues].map((stream) => `$JS.API.STREAM.INFO.${stream}`),
    `$JS.API.DIRECT.GET.${KEYS}.${ofKeys}`,
    ...[...STREAMS.filter((stream) => stream !== KEYS), ...queues].flatMap((stream) => [
      `$JS.API.DIRECT.GET.${stream}`,
      `$JS.API.DIRECT.GET.${stream}.>`,
    ]),
    ...queues.map((queue) => `$JS.API.CONSUMER.LIST.${queue}`),
    // A list of tasks.
    `$JS.API.CONSUMER.CREATE.${KEYS}.*.${publishersKeys(publisher)}`,
    `$JS.API.CONSUMER.MSG.NEXT.${KEYS}.*`,
    `$JS.API.CONSUMER.DELETE.${KEYS}.*`,
  ];
  const subscribe = [`_INBOX.${name}.>`, `outrigger.watch.${name}.*.*`, 'outrigger.cancel.*'];
  if (takes.length > 0) {
    publish.push(
      'outrigger.results.*.*.*',
      SWEEP_SUBJECT,
      `$JS.API.DIRECT.GET.${KEYS}`,
      `$JS.API.CONSUMER.CREATE.${KEYS}.>`,
      ...STREAMS.map((stream) => `$JS.API.STREAM.PURGE.${stream}`),
    );
  }
  if (keepsAnswers) {
    const stream = journalStream(publisher);
    publish.push(
      journalSubject(publisher, '*', '*'),
      `$JS.API.STREAM.INFO.${stream}`,
      `$JS.API.STREAM.PURGE.${stream}`,
      `$JS.API.DIRECT.GET.${stream}`,
      `$JS.API.DIRECT.GET.${stream}.>`,
    );
  }
  if (sharesLimits) {
    const stream = sharesStream(publisher);
    publish.push(
      `${sharesSubjects(publisher)}.*.*`,
      `$JS.API.STREAM.INFO.${stream}`,
      `$JS.API.DIRECT.GET.${stream}.>`,
    );
  }
  for (const type of [...takes].sort()) {
    const queue = queueStream(type);
    publish.push(
      `outrigger.consumers.${encodeToken(type)}.*`,
      `outrigger.wake.${encodeToken(type)}.*`,
      `$JS.API.STREAM.MSG.DELETE.${queue}`,
      `$JS.API.CONSUMER.INFO.${queue}.*`,
      `$JS.API.CONSUMER.MSG.NEXT.${queue}.*`,
      `$JS.ACK.${queue}.>`,
      // With a domain and an account before the stream.
      `$JS.ACK.*.*.${queue}.>`,
    );
    subscribe.push(`outrigger.wake.${encodeToken(type)}.*`);
  }
  return { publish, subscribe };
}

/** The rules in the server's own language, to be put into a user. */
export function permissionsText(rights: Rights): string {
  const { publish, subscribe } = rulesOf(rights);
  const lines = (subjects: readonly string[]): string =>
    subjects.map((subject) => `      ${JSON.stringify(subject)}`).join('\n');
  return `# The sidecar ${rights.publisher} publishes tasks under its own name only. Give these rules to its user alone.
permissions {
  publish { allow: [
${lines(publish)}
  ] }
  subscribe { allow: [
${lines(subscribe)}
  ] }
}`;
}
