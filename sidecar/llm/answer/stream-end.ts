/** Detects the end of a stream, which depends on its dialect. Pure. */
import { isObject } from '../../node/json.ts';
import type { EventDialect } from '../kinds/traits.ts';

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
    return this.isReached || this.dialect.isUnmarked;
  }

  /** `[DONE]` or an error ends the stream in every dialect. */
  reach(): void {
    this.isReached = true;
  }

  take(type: string | undefined, value: unknown): void {
    if (this.isReached || !isObject(value)) return;
    const { choices, endTypes, endsWith } = this.dialect;
    if (choices !== undefined) this.takeChoices(value[choices.list], choices.reason);
    else if (type !== undefined && endTypes.has(type)) this.isReached = true;
    if (endsWith?.(value) === true) this.isReached = true;
  }

  private takeChoices(choices: unknown, reasonName: string): void {
    if (!Array.isArray(choices)) return;
    for (const choice of choices) {
      if (!isObject(choice)) continue;
      const index = typeof choice['index'] === 'number' ? choice['index'] : 0;
      const reason = choice[reasonName];
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
