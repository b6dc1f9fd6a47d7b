/** Remembers what a server says of its tools (`annotations`), from the lists that pass. */
import { isObject, type Json } from '../message/json-rpc.ts';

/** A server with more tools has hints for the first ones alone. */
const MAX_TOOLS = 10_000;

export class ToolHints {
  /** The tools that may run twice, by the server's own word. */
  private readonly repeatable = new Set<string>();

  /** @param tools `result.tools` of a list, or of one of its pages */
  learn(tools: readonly Json[]): void {
    for (const tool of tools) {
      if (!isObject(tool) || typeof tool['name'] !== 'string') continue;
      const { name, annotations } = tool;
      const says = isObject(annotations) ? annotations : {};
      if (says['readOnlyHint'] !== true && says['idempotentHint'] !== true)
        this.repeatable.delete(name as string);
      else if (this.repeatable.size < MAX_TOOLS) this.repeatable.add(name as string);
    }
  }

  /** The tools have changed: what was said of them is over. */
  forget(): void {
    this.repeatable.clear();
  }

  isRepeatable(tool: string): boolean {
    return this.repeatable.has(tool);
  }
}
