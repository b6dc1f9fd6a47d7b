// The provider of the known mix: the model's name says what becomes of a request, and each attempt is noted.
import type { ServerResponse } from 'node:http';
import {
  answerWhole,
  beginStream,
  chatChunk,
  type LlmProvider,
  type ProviderRequest,
  sendError,
} from '../../scripts/harness/llm/provider.ts';

/** Whole answers take so long, and timers a little less. */
export const ANSWER_MS = 50;

/** For longer than may be waited. */
export const LEFT_ALONE_S = 600;

export class MixProvider {
  readonly url: string;
  private readonly llm: LlmProvider;

  constructor(llm: LlmProvider) {
    this.llm = llm;
    this.url = llm.script('mix', (request, response) => void this.answer(request, response));
  }

  get requests(): readonly ProviderRequest[] {
    return this.llm.requests('mix');
  }

  /** How many attempts have come for a model. */
  count(model: string): number {
    return this.requests.filter(({ json }) => json?.['model'] === model).length;
  }

  private answer(request: ProviderRequest, response: ServerResponse): unknown {
    const model = String(request.json?.['model']);
    const content = JSON.stringify(request.json?.['messages']);
    if (content.includes('refuse')) return sendError(response, 400);
    if (content.includes('fail')) return sendError(response, 500);
    if (content.includes('throttle'))
      return sendError(response, 429, { 'retry-after': String(LEFT_ALONE_S) });
    if (content.includes('quota')) return sendError(response, 429, { 'retry-after': '50' });
    if (content.includes('again') && this.isFirst(request, model)) return sendError(response, 503);
    if (content.includes('pause') && this.isFirst(request, model))
      return sendError(response, 429, { 'retry-after': '1' });
    if (content.includes('part')) {
      beginStream(response);
      response.write(chatChunk('one '));
      if (content.includes('cut')) setTimeout(() => request.socket.destroy(), ANSWER_MS);
      return undefined;
    }
    return content.includes('silent') || setTimeout(() => answerWhole(request, response), ANSWER_MS);
  }

  private isFirst({ body }: ProviderRequest, model: string): boolean {
    return (
      this.requests.filter((other) => other.json?.['model'] === model && other.body.equals(body)).length === 1
    );
  }
}
