/** The kinds of values in the runner's configuration: durations, sizes, addresses. */
import { z } from 'zod';

const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;
const unitBytes = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const;

/** `500ms`, `30s`, `5m`, `1h`; in milliseconds. */
export const duration = z.string().transform((text, context) => {
  const match = /^(\d{1,7}(?:\.\d{1,3})?)(ms|s|m|h)$/.exec(text);
  if (match !== null) {
    const ms = Number(match[1]) * unitMs[match[2] as keyof typeof unitMs];
    if (ms > 0 && ms <= 24 * unitMs.h) return ms;
  }
  context.addIssue({
    code: 'custom',
    message: `must be a duration from 1ms to 24h, such as 30s, not "${text}"`,
  });
  return z.NEVER;
});

/** `64KiB`, `256MiB`, `1GiB`; in bytes. */
export const size = z.string().transform((text, context) => {
  const match = /^(\d{1,9})(B|KiB|MiB|GiB)$/.exec(text);
  if (match !== null) {
    const bytes = Number(match[1]) * unitBytes[match[2] as keyof typeof unitBytes];
    if (bytes > 0 && bytes <= 2 ** 40) return bytes;
  }
  context.addIssue({ code: 'custom', message: `must be a size such as 256MiB, not "${text}"` });
  return z.NEVER;
});

/** A count from 1. */
export const count = (most: number) => z.int().min(1).max(most);

/** `host:port`; a host in brackets for IPv6. */
export const listenAddress = z
  .string()
  .regex(/^(\[[0-9a-fA-F:]+\]|[^\s:/[\]]+):\d{1,5}$/, 'must be host:port, such as 127.0.0.1:15030');
