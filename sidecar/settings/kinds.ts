/**
 * The kinds of values of settings. Each describes its form in `kinds`, for the messages that refuse a wrong value;
 * where a value has the right form but is still wrong, the check here gives the message.
 */
import * as z from 'zod';
import { complaintAboutIdentity } from '../tls/identity.ts';
import { AGE_PATTERN, DURATION_PATTERN, MAX_DURATION_MS, parseAgeMs, parseDurationMs } from './duration.ts';
import { parseBytes, SIZE_PATTERN } from './size.ts';

export interface Kind {
  /** The form of a valid value, in words: "a duration such as 30s". */
  readonly form: string;
  /** Converts a valid value for the code; undefined where the code uses the value itself. */
  readonly read?: (value: never) => unknown;
  /** The unit at the end of the setting's name in the code. */
  readonly unit?: 'Ms';
}

export const kinds = z.registry<Kind>();

/** The written form: `30s`, `1h30m`. No other setting has texts of this type. */
export type Duration = `${number}${string}`;

const made = new Map<string, z.ZodType>();

/**
 * Settings of one kind share one schema, because a sidecar spends most of its start on creating schemas. Options of a
 * single setting (`default`, `describe`) wrap it in a new one.
 */
export function shared<T extends z.ZodType>(kind: string, make: () => T): T {
  const before = made.get(kind);
  if (before !== undefined) return before as T;
  const schema = make();
  made.set(kind, schema);
  return schema;
}

/** The longest text that a setting accepts. */
const MAX_TEXT_LENGTH = 4096;

/** A problem with a value, and its remedy. */
export interface Complaint {
  readonly message: string;
  readonly remedy: string;
}

export function checked(
  schema: z.ZodString,
  form: string,
  complain: (value: string) => Complaint | undefined,
  more: Omit<Kind, 'form'> = {},
) {
  return schema
    .max(MAX_TEXT_LENGTH, { abort: true })
    .check((context) => {
      const complaint = complain(context.value);
      if (complaint === undefined) return;
      const { message, remedy } = complaint;
      context.issues.push({ code: 'custom', input: context.value, message, params: { remedy } });
    })
    .register(kinds, { form, ...more });
}

/** Text that is not empty and has no control characters. */
export function text(form: string, pattern?: RegExp) {
  const base = z.string().regex(pattern ?? /^[^\p{Cc}]+$/u, { abort: true });
  return base.max(MAX_TEXT_LENGTH).register(kinds, { form });
}

/** The name of an entry of the configuration, by which other settings refer to it. */
export function entryName() {
  return shared('entry name', () =>
    text('a name such as writing-agent', /^[A-Za-z0-9][A-Za-z0-9._:-]{0,252}$/),
  );
}

const AGENT_TYPE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** What a kind of agent is called on the bus. */
export function agentType() {
  return shared('agent type', () => text('an agent type such as research', AGENT_TYPE));
}

/** Whether agents of this type can be configured to take tasks of the bus. */
export function isAgentType(text: string): boolean {
  return AGENT_TYPE.test(text);
}

/** The name of a header field, in lower case in the code. */
export function headerName(form: string) {
  const name = z.string().regex(/^[A-Za-z0-9_.-]+$/, { abort: true });
  const read = (value: string) => value.toLowerCase();
  return name.max(MAX_TEXT_LENGTH).register(kinds, { form, read });
}

/** A duration; `zero` says whether `0s` has a meaning (mostly "off"). */
export function duration(zero: 'zero' | 'positive'): z.ZodType<Duration, Duration> {
  return shared(`duration ${zero}`, () => durationOf(zero));
}

function durationOf(zero: 'zero' | 'positive') {
  const base = z.string().regex(DURATION_PATTERN, { abort: true });
  const complain = (value: string): Complaint | undefined => {
    const ms = parseDurationMs(value);
    if (ms === undefined || ms > MAX_DURATION_MS) {
      return { message: 'is longer than a duration may be', remedy: 'use at most 24 days: 576h' };
    }
    if (ms === 0 && zero === 'positive') {
      return { message: 'can not be zero', remedy: 'write a duration such as 5s' };
    }
    return undefined;
  };
  const duration = checked(base, 'a duration such as 30s, 250ms or 1h30m', complain, {
    read: parseDurationMs,
    unit: 'Ms',
  });
  return duration as unknown as z.ZodType<Duration, Duration>;
}

/** How long something is kept: a duration, or whole days. It is no timer, so that it may be longer than a {@link duration}. */
export function age(): z.ZodType<Duration, Duration> {
  const base = z.string().regex(AGE_PATTERN, { abort: true });
  const complain = (value: string): Complaint | undefined => {
    const ms = parseAgeMs(value);
    if (ms !== undefined && ms > 0 && ms <= MAX_AGE_MS) return undefined;
    return ms === 0
      ? { message: 'can not be zero', remedy: 'write an age such as 24h or 30d' }
      : { message: 'is longer than an age may be', remedy: 'use at most ten years: 3650d' };
  };
  const kind = checked(base, 'an age such as 30d, 24h or 10m', complain, { read: parseAgeMs, unit: 'Ms' });
  return kind as unknown as z.ZodType<Duration, Duration>;
}

const MAX_AGE_MS = 3_650 * 86_400_000;

/** The written form: a number of bytes, or `10MiB`. */
export type Size = number | `${number}${'K' | 'M' | 'G'}iB`;

/** A number of bytes. */
export function size(min: number, max: number): z.ZodType<Size, Size> {
  const form = 'a number of bytes, or a size such as 64KiB, 10MiB or 1GiB';
  // Environment variables give numbers as text.
  const kind = z
    .union([z.int().min(0), z.string().regex(SIZE_PATTERN)])
    .check((context) => {
      const bytes = parseBytes(context.value);
      if (bytes === undefined || (bytes >= min && bytes <= max)) return;
      const message = bytes < min ? 'is too small' : 'is too large';
      const remedy = `write a size from ${min} to ${max} bytes`;
      context.issues.push({ code: 'custom', input: context.value, message, params: { remedy } });
    })
    .register(kinds, { form, read: parseBytes });
  return kind as unknown as z.ZodType<Size, Size>;
}

/** A port by its name in a Service (RFC 6335 §5.1), or by its number. */
export function portOfPods() {
  // Environment variables give numbers as text.
  const name = z
    .string()
    .regex(
      /^([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?)$/,
    );
  const form = 'the name of a port such as grpc, or a number from 1 to 65535';
  const read = (port: string | number) => (/^\d+$/.test(`${port}`) ? Number(port) : port);
  return z.union([z.int().min(1).max(65_535), name]).register(kinds, { form, read });
}

/** A whole number. */
export function integer(min: number, max: number) {
  return shared(`integer ${min} ${max}`, () =>
    z
      .int()
      .check(z.gte(min), z.lte(max))
      .register(kinds, { form: `a whole number from ${min} to ${max}` }),
  );
}

/** An amount of money in USD. */
export function dollars() {
  return shared('dollars', () =>
    z
      .number()
      .min(0)
      .max(1_000_000)
      .register(kinds, { form: 'an amount of USD such as 12.5, up to 1000000' }),
  );
}

export function percent() {
  return shared('percent', () =>
    z.number().check(z.gte(0), z.lte(100)).register(kinds, { form: 'a number from 0 to 100' }),
  );
}

export function flag() {
  return shared('flag', () => z.boolean().register(kinds, { form: 'true or false' }));
}

/** The path of a file. */
export function file() {
  return shared('file', () => text('the path of a file'));
}

/** A name in a certificate, or a pattern of such names. */
export function identity() {
  const form = 'a name such as spiffe://example.org/ns/agents/sa/writer or *.agents.svc';
  return checked(z.string().min(1, { abort: true }), form, (value) => {
    const message = complaintAboutIdentity(value);
    return message === undefined ? undefined : { message, remedy: `write ${form}` };
  });
}

/** An HTTP or HTTPS URL without a fragment. */
export function url() {
  return checked(z.string(), 'a URL such as https://api.openai.com/v1', (value) => {
    const parsed = URL.canParse(value) ? new URL(value) : undefined;
    if (parsed === undefined || !/^https?:$/.test(parsed.protocol) || parsed.hash !== '') {
      return {
        message: 'is not an http or https URL',
        remedy: 'write one such as https://api.openai.com/v1',
      };
    }
    return undefined;
  });
}

export function oneOf<const T extends readonly string[]>(values: T) {
  return z.enum(values).register(kinds, { form: `one of ${values.join(', ')}` });
}
