/** The settings of the MCP listener (`tools.mcp`). */
import { z } from 'zod';
import { listenAddress } from './kinds.ts';

const path = z.string().min(1);

export const mcpSettings = z.strictObject({
  listen: listenAddress.nullable().default(null),
  /** Each caller has a key of its own, in a variable of the environment. */
  keys: z
    .array(
      z.strictObject({ name: z.string().min(1).max(128), env: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/) }),
    )
    .max(1000)
    .default([]),
  /** With `ca`, callers need a certificate of that authority. */
  tls: z.strictObject({ cert: path, key: path, ca: path.optional() }).optional(),
  /** Hosts of web pages that may call: browsers send Origin. */
  origins: z.array(z.string().min(1)).max(100).default([]),
});

export type McpSettings = z.infer<typeof mcpSettings>;
