/**
 * The log: one JSON object a line on standard output.
 *
 * A log must never hold up a call. Lines are written in the background; when whoever reads them
 * stops reading, what no longer fits the buffer is dropped and counted, and the sidecar goes on. A line says how many are
 * missing when the reader is back.
 *
 * It must not tell secrets either: header values, metadata and keys are taken out whoever logs them,
 * and of an error only its type, code, message and stack are written.
 */
import { type DestinationStream, type Logger, pino } from 'pino';
import { LineWriter, stdoutWriter } from '../node/line-writer.ts';

export type { Logger } from 'pino';

export interface LogOptions {
  /** A pino level, or `silent`. The level of a running logger is `logger.level`. */
  readonly level: string;
  /** Fields of every line. */
  readonly base?: Readonly<Record<string, string>>;
  /** Standard output by default. */
  readonly stream?: DestinationStream;
}

/** Names of fields that can hold secrets, in lower case without `_` and `-`. */
const SECRET_FIELDS = new Set([
  'headers',
  'trailers',
  'metadata',
  'authorization',
  'cookie',
  'apikey',
  'token',
  'password',
  'secret',
]);
const REMOVED = '[removed]';
/** Objects in objects are looked into this far; deeper ones are not written. */
const MAX_DEPTH = 4;

/** The logger that everything is given; `child` adds fields. */
export function createLogger(options: LogOptions): Logger {
  const stream = options.stream ?? stdoutWriter();
  const logger = pino(
    {
      level: options.level,
      base: options.base ?? null,
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: describeError },
      formatters: {
        level: (label) => ({ level: label }),
        log: (fields) => withoutSecrets(fields, 0) as Record<string, unknown>,
      },
    },
    stream,
  );
  // Fields of a child skip the formatters. Children of children inherit this.
  const { child } = logger;
  logger.child = function (this: Logger, fields: object, childOptions?: object) {
    return child.call(this, withoutSecrets(fields, 0) as Record<string, unknown>, childOptions);
  } as Logger['child'];
  if (stream instanceof LineWriter) tellDropped(logger, stream);
  return logger;
}

/** At every level: lines of the access log are among those that are missing. */
function tellDropped(logger: Logger, lines: LineWriter): void {
  const notices = logger.child({}, { level: 'warn' });
  lines.onDropped = (dropped) =>
    notices.warn(
      { dropped_lines: dropped },
      'log lines are missing here: they were dropped while nobody read the log, or it could not be written (outrigger_log_lines_dropped_total)',
    );
}

/** A copy without what may be secret; the same object when there is nothing to take out. */
function withoutSecrets(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null || value instanceof Error) return value;
  if (depth === MAX_DEPTH) return REMOVED;
  if (Array.isArray(value)) return value.map((item) => withoutSecrets(item, depth + 1));
  if (value instanceof Date || value instanceof Uint8Array) return value;
  let copy: Record<string, unknown> | undefined;
  for (const [name, inner] of Object.entries(value)) {
    const secret = SECRET_FIELDS.has(name.toLowerCase().replaceAll(/[_-]/g, ''));
    const clean = secret ? REMOVED : withoutSecrets(inner, depth + 1);
    if (clean !== inner) {
      copy ??= { ...value };
      copy[name] = clean;
    }
  }
  return copy ?? value;
}

/** Errors of clients carry the request and its headers as properties: none but these are written. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error);
  const { name, message, stack } = error;
  const code: unknown = (error as NodeJS.ErrnoException).code;
  const cause = error.cause instanceof Error ? { cause: describeError(error.cause) } : {};
  return {
    type: name,
    ...(typeof code === 'string' || typeof code === 'number' ? { code } : {}),
    message,
    stack,
    ...cause,
  };
}
