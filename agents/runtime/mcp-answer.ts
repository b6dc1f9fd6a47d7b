/** What a model reads of the result of a tool by MCP, and whether it is a result of the tool itself. Pure. */

/** The end of a call. */
export interface ToolAnswer {
  readonly text: string;
  /** Why there is no result of the tool itself. */
  readonly failed?: string;
}

interface Content {
  readonly type: string;
  readonly text?: string | undefined;
  readonly mimeType?: string | undefined;
  readonly data?: string | undefined;
  readonly uri?: string | undefined;
  readonly resource?: Partial<Readonly<Record<'uri' | 'text' | 'mimeType', string | undefined>>> | undefined;
}

/** Texts as they are; other content is named, because the model of a chat reads texts alone. */
export function resultText(content: readonly Content[], structured: unknown): string {
  const parts = content.map((part) => part.text ?? part.resource?.text ?? named(part));
  if (parts.length === 0 && structured !== undefined) return JSON.stringify(structured);
  return parts.join('\n');
}

function named({ type, mimeType, data, uri, resource }: Content): string {
  const kind = mimeType ?? resource?.mimeType ?? '';
  const place = uri ?? resource?.uri ?? '';
  const size = data === undefined ? '' : `${Math.floor((data.length * 3) / 4)} bytes`;
  return `[${[type, kind, place, size].filter((word) => word !== '').join(', ')}: not shown]`;
}

/**
 * A tool that fails has a result, as a program has that ends with an error. Words of the sidecar or of the tool runner that
 * there is none are marked.
 */
export function whyNoResult(text: string, meta: Readonly<Record<string, unknown>> = {}): string | undefined {
  const reason = meta['outrigger/reason'] ?? meta['dev.outrigger/reason'] ?? meta['dev.outrigger/status'];
  if (typeof reason !== 'string') return undefined;
  return reason === 'outcome_unknown' ? `outcome unknown: ${text}` : text;
}
