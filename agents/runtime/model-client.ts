/** The openai client of one task; model.ts loads this file when the package is installed. */
import OpenAI from 'openai';
import type { ModelSettings } from './settings.ts';

/**
 * An openai client that belongs to one task: every request ends with the task, whether or not the agent passes the
 * signal on. A model that continues for a disconnected caller still costs money.
 */
export class ModelClient extends OpenAI {
  private readonly taskSignal: AbortSignal;

  constructor(settings: ModelSettings, signal: AbortSignal, headers: Record<string, string>) {
    super({
      baseURL: settings.baseUrl,
      apiKey: settings.apiKey,
      maxRetries: settings.maxRetries,
      defaultHeaders: headers,
    });
    this.taskSignal = signal;
  }

  protected override async prepareOptions(options: {
    signal?: AbortSignal | null | undefined;
  }): Promise<void> {
    const { signal } = options;
    options.signal = signal ? AbortSignal.any([this.taskSignal, signal]) : this.taskSignal;
  }
}
