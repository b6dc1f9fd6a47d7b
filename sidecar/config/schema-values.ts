/**
 * The kinds of value a setting can have. Each says in `forms` what it looks like, for the messages
 * that refuse a wrong one; the checks here give the message when only the form is right.
 */
import * as z from 'zod';
import { NO_APP } from '../cluster/address.ts';
import { complaintAboutIdentity } from '../tls/identity.ts';
import { complaintAboutAddress } from './address.ts';
import { DURATION_PATTERN, MAX_DURATION_MS, parseDurationMs } from './duration.ts';

/** What a right value looks like, in words: "a duration such as 30s". */
export const forms = z.registry<{ form: string }>();

const made = new Map<string, z.ZodType>();

/**
 * Settings of one kind share one schema, for a sidecar's start is mostly the making of schemas. What is said of a single
 * setting (`default`, `describe`) makes a new one around it.
 */
function shared<T extends z.ZodType>(kind: string, make: () => T): T {
  const before = made.get(kind);
  if (before !== undefined) return before as T;
  const schema = make();
  made.set(kind, schema);
  return schema;
}

/** The longest text any setting takes. */
const MAX_TEXT_LENGTH = 4096;

/** A complaint about a value, and what to do. */
interface Complaint {
  readonly message: string;
  readonly remedy: string;
}

function checked(schema: z.ZodString, form: string, complain: (value: string) => Complaint | undefined) {
  return schema
    .max(MAX_TEXT_LENGTH, { abort: true })
    .check((context) => {
      const complaint = complain(context.value);
      if (complaint === undefined) return;
      const { message, remedy } = complaint;
      context.issues.push({ code: 'custom', input: context.value, message, params: { remedy } });
    })
    .register(forms, { form });
}

/** Text that is not empty and has no control characters. */
export function text(form: string, pattern?: RegExp) {
  const base = z.string().regex(pattern ?? /^[^\p{Cc}]+$/u, { abort: true });
  return base.max(MAX_TEXT_LENGTH).register(forms, { form });
}

/** A duration; `zero` says whether `0s` is a meaning (mostly "off"). */
export function duration(zero: 'zero' | 'positive') {
  return shared(`duration ${zero}`, () => durationOf(zero));
}

function durationOf(zero: 'zero' | 'positive') {
  const base = z.string().regex(DURATION_PATTERN, { abort: true });
  return checked(base, 'a duration such as 30s, 250ms or 1h30m', (value) => {
    const ms = parseDurationMs(value);
    if (ms === undefined || ms > MAX_DURATION_MS) {
      return { message: 'is too long a duration', remedy: 'use at most 24 days: 576h' };
    }
    if (ms === 0 && zero === 'positive') {
      return { message: 'can not be zero', remedy: 'write how long it may take, such as 5s' };
    }
    return undefined;
  });
}

/** An address to connect to. */
export function target() {
  return checked(z.string(), 'an address such as 10.0.0.7:50051 or unix:/run/agent.sock', (value) => {
    return complaintAboutAddress(value, 'connect');
  });
}

/** The address of the local app, or that there is none. */
export function appTarget() {
  const form = `an address such as 10.0.0.7:50051 or unix:/run/agent.sock, or ${NO_APP}`;
  return checked(z.string(), form, (value) =>
    value === NO_APP ? undefined : complaintAboutAddress(value, 'connect'),
  );
}

/** A DNS name with a port. */
export function dnsTarget() {
  return checked(z.string(), 'a name with a port such as writing-agent-headless:50051', (value) => {
    if (!value.startsWith('unix:')) return complaintAboutAddress(value, 'connect');
    return { message: 'is a unix socket', remedy: 'write it in endpoints, or a DNS name with a port here' };
  });
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
  return z.union([z.int().min(1).max(65_535), name]).register(forms, { form });
}

/** An address to listen on; port 0 takes a free one. */
export function listen() {
  return shared('listen', () =>
    checked(z.string(), 'an address such as 127.0.0.1:15001 or unix:/run/x.sock', (value) => {
      return complaintAboutAddress(value, 'listen');
    }),
  );
}

/** A whole number. */
export function integer(min: number, max: number) {
  return shared(`integer ${min} ${max}`, () =>
    z
      .int()
      .check(z.gte(min), z.lte(max))
      .register(forms, { form: `a whole number from ${min} to ${max}` }),
  );
}

export function percent() {
  return shared('percent', () =>
    z.number().check(z.gte(0), z.lte(100)).register(forms, { form: 'a number from 0 to 100' }),
  );
}

export function flag() {
  return shared('flag', () => z.boolean().register(forms, { form: 'true or false' }));
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
  return z.enum(values).register(forms, { form: `one of ${values.join(', ')}` });
}
