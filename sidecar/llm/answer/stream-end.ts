/** Detects the end of a stream, which depends on its dialect. Pure. */
import type { EventDialect } from '../shared/operations.ts';

/** Events that end a stream of the Responses API. */
const RESPONSE_ENDS: ReadonlySet<string> = new Set([
  'response.completed',
  'response.incomplete',
  'response.failed',
  'response.cancelled',
]);
/** No provider sends more choices; further ones are ignored. */
const MAX_CHOICES = 1_024;

export class StreamEnd {
  private readonly dialect: EventDialect;
  private readonly expectedChoices: number;
  private readonly open = new Set<number>();
  private readonly finished = new Set<number>();
  /** The last event of the answer has come; only its usage or keep-alives may follow. */
  isReached = false;

  /** @param expectedChoices the choices that the request asks for */
  constructor(dialect: EventDialect, expectedChoices: number) {
    this.dialect = dialect;
    this.expectedChoices = expectedChoices;
  }

  /** Whether the bytes may end here without a loss. */
  get mayEnd(): boolean {
    return this.isReached || this.dialect === 'unmarked';
  }

  /** `[DONE]` or an error ends the stream in every dialect. */
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
