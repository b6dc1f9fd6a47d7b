/** Tells when a stream is whole: what ends it depends on its dialect. Pure. */
import type { EventDialect } from '../shared/operations.ts';

/** Events that end a stream of the Responses API. */
const RESPONSE_ENDS: ReadonlySet<string> = new Set([
  'response.completed',
  'response.incomplete',
  'response.failed',
  'response.cancelled',
]);
/** No provider gives more choices; what comes beside them is not followed. */
const MAX_CHOICES = 1_024;

export class StreamEnd {
  private readonly dialect: EventDialect;
  private readonly expectedChoices: number;
  private readonly open = new Set<number>();
  private readonly finished = new Set<number>();
  /** Its last event has come; what may follow tells of it (the usage), or keeps a connection alive. */
  isReached = false;

  /** @param expectedChoices that the request asks for */
  constructor(dialect: EventDialect, expectedChoices: number) {
    this.dialect = dialect;
    this.expectedChoices = expectedChoices;
  }

  /** The bytes may end here without anything being lost. */
  get mayEnd(): boolean {
    return this.isReached || this.dialect === 'unmarked';
  }

  /** `[DONE]`, or an error: whatever the dialect, nothing more is to come. */
  reach(): void {
    this.isReached = true;
  }

  take(type: string | undefined, value: unknown): void {
    if (this.dialect === 'choices') this.takeChoices((value as { choices?: unknown } | null)?.choices);
    else if (type === undefined) return;
    else if (this.dialect === 'responses') this.isReached ||= RESPONSE_ENDS.has(type);
    else if (this.dialect === 'messages') this.isReached ||= type === 'message_stop';
  }

  private takeChoices(choices: unknown): void {
    if (!Array.isArray(choices)) return;
    for (const choice of choices as readonly ({ index?: unknown; finish_reason?: unknown } | null)[]) {
      if (typeof choice !== 'object' || choice === null) continue;
      const index = typeof choice.index === 'number' ? choice.index : 0;
      const reason = choice.finish_reason;
      if (typeof reason === 'string' && reason !== '') {
        this.open.delete(index);
        if (this.finished.size < MAX_CHOICES) this.finished.add(index);
      } else if (!this.finished.has(index) && this.open.size < MAX_CHOICES) {
        this.open.add(index);
      }
    }
    if (this.open.size === 0 && this.finished.size >= this.expectedChoices) this.isReached = true;
  }
}
