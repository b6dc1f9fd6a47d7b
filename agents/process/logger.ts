import { type Logger, pino } from 'pino';
import { LogWriter } from './log-writer.ts';

/**
 * The log of a process: JSON lines on the standard output, from LOG_LEVEL (info) up. Neither of pino's own writers does:
 * the one stops the process while nobody reads, the other never lets it end when the reader is gone.
 */
export function createLogger(name: string): Logger {
  const level = process.env['LOG_LEVEL'] || 'info';
  return pino({ name, level }, new LogWriter());
}
