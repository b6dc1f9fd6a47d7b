/** Names why an attempt at a server failed, and says it in words. Pure. */

export type McpFailureReason =
  | 'connect_failed'
  | 'connection_lost'
  | 'upstream_protocol'
  | 'first_byte'
  | 'idle'
  | 'deadline'
  | 'answer_cut'
  | 'malformed_answer'
  | 'answer_too_large'
  /** The server, or a proxy before it, answered with an error of HTTP. */
  | 'status';

export interface McpFailure {
  readonly reason: McpFailureReason;
  /** The server may have received the request. */
  readonly sent: boolean;
  /** In words, without an address. */
  readonly why: string;
}

const TEXTS: Readonly<Record<McpFailureReason, string>> = {
  connect_failed: 'no connection to the tool server was made',
  connection_lost: 'the connection to the tool server was lost before its answer',
  upstream_protocol: 'the tool server sent something that is no HTTP',
  first_byte: 'the tool server did not begin its answer in time (mcp.first_byte_timeout)',
  idle: 'the tool server was silent in its answer for too long (mcp.idle_timeout)',
  deadline: 'the time for the request is over',
  answer_cut: 'the answer of the tool server broke off',
  malformed_answer: 'the answer of the tool server is no answer to the request',
  answer_too_large: 'the answer of the tool server is too large (mcp.limits.max_answer_bytes)',
  status: 'the tool server, or a proxy before it, answered with an error',
};

/** @param code of the operating system or of TLS; '' without one */
export function failureText(reason: McpFailureReason, code = ''): string {
  return TEXTS[reason] + (code === '' ? '' : ` (${code})`);
}

/** Whether the same request may succeed at another time. */
export function isRetryable({ reason }: McpFailure): boolean {
  return reason !== 'deadline' && reason !== 'answer_too_large' && reason !== 'idle';
}
