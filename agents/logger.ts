import { type Logger, pino } from 'pino';

/**
 * The log of a process: JSON lines on the standard output, from LOG_LEVEL (info) up. It writes at once rather
 * than in the background: pino's background writer tries for ever to empty its buffer when the process exits
 * and the reader of the output is gone, and the process then never ends.
 */
export function createLogger(name: string): Logger {
  const level = process.env['LOG_LEVEL'] || 'info';
  return pino({ name, level }, pino.destination({ dest: 1, sync: true }));
}
