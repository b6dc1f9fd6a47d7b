/** The log of an agent process. */
import { type Logger, pino } from 'pino';
import { stdoutWriter } from '../../sidecar/node/line-writer.ts';

/**
 * Creates the log of a process: JSON lines on the standard output, from LOG_LEVEL (info) up. Neither of pino's own
 * writers works here: one blocks the process while no reader takes lines, the other keeps the process alive after the
 * reader has closed the pipe.
 */
export function createLogger(name: string): Logger {
  const level = process.env['LOG_LEVEL'] || 'info';
  const lines = stdoutWriter();
  const log = pino({ name, level }, lines);
  const notices = log.child({}, { level: 'warn' });
  lines.onDropped = (dropped) =>
    notices.warn(
      { dropped_lines: dropped },
      'the process dropped log lines here, because no reader took them',
    );
  return log;
}
