/** Finds the problems of tool servers. Pure. */
import type { Finding } from './finding.ts';

export interface ToolServerFacts {
  readonly name: string;
  readonly circuit: string;
  readonly rejections: number;
  /** Why the latest request failed; '' when none has failed since the last success. */
  readonly lastFailure: string;
}

export function* toolServerFindings({
  name,
  circuit,
  rejections,
  lastFailure,
}: ToolServerFacts): Generator<Finding> {
  if (circuit === 'closed') return;
  const turnedAway = rejections > 0 ? ', and calls of its tools are turned away' : '';
  const because = lastFailure === '' ? '' : `: ${lastFailure}`;
  yield {
    kind: 'tool_server_circuit',
    id: `circuit of tool server ${name}`,
    severity: circuit === 'open' ? 'bad' : 'warn',
    text: `The circuit of the tool server ${name} is ${circuit}${turnedAway}${because}.`,
    detail: '',
    about: { tool_server: name },
    numbers: { requests_turned_away: rejections },
  };
}
