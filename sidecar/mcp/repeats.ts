/**
 * Finds calls of tools that a task makes again: the same tool with equal arguments, at the same place in the task
 * (`journal/run/places.ts`). Such a call is not made twice:
 *
 *     none ──▶ noted before it is sent ──▶ answered: replayed from then on
 *                        │                 └── answered with an error: it is made again
 *                        └── no answer came: its outcome is unknown
 *
 * The journal keeps what is noted, where there is one. Otherwise this process does, for the runs that it serves.
 */
import { createHash } from 'node:crypto';
import type { JournaledRun } from '../journal/journal.ts';
import { MemoryStore } from '../journal/memory/memory-store.ts';
import { BodyPrint } from '../journal/record/body-print.ts';
import { jsonPathAt } from '../journal/record/json-path.ts';
import type { Answer } from '../journal/record/record.ts';
import type { JournalEntry } from '../journal/run/journal-entry.ts';
import { RunJournal } from '../journal/run/run-journal.ts';
import { textOf } from '../llm/shared/headers.ts';
import { canonical, isObject, type JsonObject, parseJson } from './message/json-rpc.ts';
import type { McpRequest, ToolCall } from './message/mcp-request.ts';
import type { McpContext } from './server/mcp-context.ts';

/** Notes, in the place of statuses of answers (`FIRST_ANSWER_STATUS`). */
const SENT = 102;
const ANSWERED_WITH_ERROR = 100;
const ANSWERED = 200;

const MEMORY = { maxAgeMs: 3_600_000, maxBytes: 16_777_216 };
const MAX_TASK_BYTES = 4_194_304;
const MAX_KEY_LENGTH = 512;
const NO_EVENTS = {
  onReplayed() {},
  onMissed() {},
  onStored() {},
  onNotStored() {},
  onLate() {},
  onDiffers() {},
};

/** What an earlier call has left: its result, or that nobody knows. */
export type Found =
  | { readonly kind: 'none' }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'answered'; readonly result: JsonObject };

export class Repeats {
  private readonly context: McpContext;
  private readonly memory: MemoryStore;
  private readonly runs = new WeakMap<JournaledRun, RunJournal>();

  constructor(context: McpContext) {
    this.context = context;
    this.memory = new MemoryStore(MEMORY, context.clock);
  }

  /** The place of a call in its task; undefined where its task is not certain. */
  enter(
    server: string,
    { headers, sessionId, ownerCall }: McpRequest,
    call: ToolCall,
  ): CallPlace | undefined {
    const run = ownerCall?.run;
    if (run === undefined || ownerCall?.callerScope === undefined) return undefined;
    const { _meta, ...asked } = call.params;
    const text = canonical(asked);
    const print = new BodyPrint();
    print.push(Buffer.from(text));
    const given = textOf(headers['idempotency-key']) ?? '';
    // Within a session no id comes twice, except when the same request does.
    const key = given === '' && sessionId !== '' ? `${sessionId} ${JSON.stringify(call.id)}` : given;
    const entry = this.journalOf(run)?.enter({
      method: 'tools/call',
      path: `/mcp/${server}/${call.name}`,
      print: print.end(),
      variant: '',
      idempotencyKey: key.length > MAX_KEY_LENGTH ? '' : key,
      names: () => (fromByte, toByte) => {
        const bytes = Buffer.from(text).subarray(0, toByte);
        return jsonPathAt(bytes, fromByte);
      },
    });
    return entry === undefined ? undefined : new CallPlace(entry, `${run.task} ${entry.place}`);
  }

  private journalOf(run: JournaledRun): RunJournal | undefined {
    const { journal } = this.context;
    if (journal?.isOn === true) return journal.of(run);
    const known = this.runs.get(run);
    if (known !== undefined) return known;
    const begun = new RunJournal(
      {
        store: this.memory,
        events: NO_EVENTS,
        maxTaskBytes: MAX_TASK_BYTES,
        digestOf: (task, { method, path, print }) =>
          createHash('sha256')
            .update(JSON.stringify([task, method, path]))
            .update(print.digest)
            .digest('base64url'),
        seal: (payload) => payload,
        open: (payload) => payload,
      },
      run.task,
    );
    this.runs.set(run, begun);
    run.whenOver((isFinal) => begun.end(isFinal));
    return begun;
  }
}

/** The place of one call. */
export class CallPlace {
  /** Equal for two requests that are the same call. */
  readonly key: string;
  private readonly entry: JournalEntry;

  constructor(entry: JournalEntry, key: string) {
    this.entry = entry;
    this.key = key;
  }

  async find(): Promise<Found> {
    const answer = await this.entry.find();
    switch (answer?.status) {
      case SENT:
        return { kind: 'unknown' };
      case ANSWERED: {
        const result = parseJson(answer.body.toString('utf8'));
        return isObject(result) ? { kind: 'answered', result } : { kind: 'unknown' };
      }
      default:
        return { kind: 'none' };
    }
  }

  /** Notes that the call is sent now. Never rejects. */
  async noteSent(): Promise<void> {
    await this.entry.keep(note(SENT));
  }

  /** Keeps its result. */
  keep(result: JsonObject): void {
    void this.entry.keep({ status: ANSWERED, fields: {}, body: Buffer.from(JSON.stringify(result)) });
  }

  /** It was answered with an error, or provably not carried out: it may be made again. */
  clear(): void {
    void this.entry.keep(note(ANSWERED_WITH_ERROR));
    this.entry.notDelivered();
  }

  /** The agent has no answer: it asks for the same call when it asks again. */
  notDelivered(): void {
    this.entry.notDelivered();
  }
}

function note(status: number): Answer {
  return { status, fields: {}, body: Buffer.alloc(0) };
}
