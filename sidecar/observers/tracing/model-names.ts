/** Bounds the names of models in the names of spans. */
import { OTHER_MODEL } from '../../telemetry/llm-stats.ts';

/** Callers choose models, and tracing backends index the names of spans. */
const MAX_ANSWERED = 100;
const MAX_UNANSWERED = 50;
const MAX_CHARS = 256;

/** With these statuses a provider says that it does not have the model, or does not understand the request. */
const NOT_ITS_MODEL: ReadonlySet<string> = new Set(['400', '404', '422']);

/**
 * Selects the models that appear in the names of spans: those that have been answered, and some that no provider has
 * refused yet. All others appear as `_OTHER`; `gen_ai.request.model` holds every name.
 */
export class ModelNames {
  private readonly answered = new Set<string>();
  private readonly unanswered = new Set<string>();

  /** @param errorType '' for a successful answer */
  nameOf(requestModel: string, errorType: string): string {
    if (requestModel === '' || this.answered.has(requestModel)) return requestModel;
    if (requestModel.length > MAX_CHARS || NOT_ITS_MODEL.has(errorType)) return OTHER_MODEL;
    if (errorType === '' && this.answered.size < MAX_ANSWERED) {
      this.unanswered.delete(requestModel);
      this.answered.add(requestModel);
      return requestModel;
    }
    if (this.unanswered.has(requestModel)) return requestModel;
    if (this.unanswered.size >= MAX_UNANSWERED) return OTHER_MODEL;
    this.unanswered.add(requestModel);
    return requestModel;
  }
}
