/** Finds the problems of tool servers. Pure. */
import type { Finding } from './finding.ts';
import { counted } from './words.ts';

export interface ToolServerFacts {
  readonly name: string;
  readonly circuit: string;
  readonly rejections: number;
  /** Why the latest request failed; '' when none has failed since the last success. */
  readonly lastFailure: string;
  /** The latest requests that failed, without a success among them. */
  readonly failedInARow: number;
  /** How long ago the latest failure was; Infinity when there was none. */
  readonly failedAgoMs: number;
}

/** A single failure may be the fault of one request, or of a moment. */
const MIN_IN_A_ROW = 3;
/** With thin traffic the latest failure may be minutes old, and is still the best evidence. */
const TOLD_MS = 600_000;

export function* toolServerFindings(facts: ToolServerFacts): Generator<Finding> {
  const { name, circuit, rejections, lastFailure, failedInARow, failedAgoMs } = facts;
  const because = lastFailure === '' ? '' : `: ${lastFailure}`;
  const about = { tool_server: name };
  if (circuit !== 'closed') {
    const turnedAway = rejections > 0 ? ', and calls of its tools are turned away' : '';
    yield {
      kind: 'tool_server_circuit',
      id: `circuit of tool server ${name}`,
      severity: circuit === 'open' ? 'bad' : 'warn',
      text: `The circuit of the tool server ${name} is ${circuit}${turnedAway}${because}.`,
      detail: '',
      about,
      numbers: { requests_turned_away: rejections },
    };
  } else if (failedInARow >= MIN_IN_A_ROW && failedAgoMs < TOLD_MS)
    yield {
      kind: 'tool_server_fails',
      id: `failures of tool server ${name}`,
      severity: 'bad',
      text: `The tool server ${name} fails${because}.`,
      detail: `${counted(failedInARow, 'request', 'fails')} in a row`,
      about,
      numbers: { in_a_row: failedInARow, latest_ms_ago: Math.round(failedAgoMs) },
    };
}
