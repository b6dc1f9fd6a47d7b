import { OTHER_MODEL } from '../../telemetry/llm-stats.ts';

/** Callers choose models, and backends of traces index the names of spans. */
const MAX_ANSWERED = 100;
const MAX_UNANSWERED = 50;
const MAX_CHARS = 256;

/** By these a provider says that it does not have the model, or does not understand the request. */
const NOT_ITS_MODEL: ReadonlySet<string> = new Set(['400', '404', '422']);

/**
 * Which models stand in the names of spans: those that have been answered, and some that nobody has refused yet. The others
 * are `_OTHER` there; `gen_ai.request.model` has them all.
 */
export class ModelNames {
  readonly #answered = new Set<string>();
  readonly #unanswered = new Set<string>();

  /** @param errorType '' when it was answered */
  nameOf(requestModel: string, errorType: string): string {
    if (requestModel === '' || this.#answered.has(requestModel)) return requestModel;
    if (requestModel.length > MAX_CHARS || NOT_ITS_MODEL.has(errorType)) return OTHER_MODEL;
    if (errorType === '' && this.#answered.size < MAX_ANSWERED) {
      this.#unanswered.delete(requestModel);
      this.#answered.add(requestModel);
      return requestModel;
    }
    if (this.#unanswered.has(requestModel)) return requestModel;
    if (this.#unanswered.size >= MAX_UNANSWERED) return OTHER_MODEL;
    this.#unanswered.add(requestModel);
    return requestModel;
  }
}
