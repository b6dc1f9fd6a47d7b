/**
 * The log: one JSON object a line on standard output.
 *
 * A log must never delay a call. A background writer writes the lines. When the reader stops reading, the buffer fills,
 * and the log drops and counts further lines while the sidecar continues. When the reader returns, a line reports the
 * number of missing lines.
 *
 * The log must not reveal secrets either: it removes header values, metadata and keys from every line, and of an error
 * it writes only the type, code, message and stack.
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
/** The depth to which we search nested objects for secrets; deeper objects are left out. */
const MAX_DEPTH = 4;

/** Creates the logger that every component receives; `child` adds fields. */
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
  // Pino's formatters skip the fields of a child. Children of children inherit this override.
  const { child } = logger;
  logger.child = function (this: Logger, fields: object, childOptions?: object) {
    return child.call(this, withoutSecrets(fields, 0) as Record<string, unknown>, childOptions);
  } as Logger['child'];
  if (stream instanceof LineWriter) reportDropped(logger, stream);
  return logger;
}

/** Reports at every level, because lines of the access log may be among the missing ones. */
function reportDropped(logger: Logger, lines: LineWriter): void {
  const notices = logger.child({}, { level: 'warn' });
  lines.onDropped = (dropped) =>
    notices.warn(
      { dropped_lines: dropped },
      'log lines are missing here: the sidecar dropped them while no process read the log, or while it could not write the log (outrigger_log_lines_dropped_total)',
    );
}

/** A copy without possible secrets; the same object when there is nothing to remove. */
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

/** Errors of clients carry the request and its headers as properties; we write none but these. */
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
