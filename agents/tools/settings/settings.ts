/** The configuration of the tool runner: a YAML file (TOOLS_CONFIG) whose key `tools` has what is declared here. */
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { type Environment, SettingError } from '../../process/environment.ts';
import { usualLimits } from '../sandbox/limits.ts';
import { tiers } from '../sandbox/tiers.ts';
import { count, duration, listenAddress, size } from './kinds.ts';
import { mcpSettings } from './mcp-settings.ts';

const limits = z.strictObject({
  cpu: duration.optional(),
  wall: duration.optional(),
  memory: size.optional(),
  processes: count(4096).optional(),
  output: size.optional(),
  files: size.optional(),
});

const allowEntry = z
  .string()
  .regex(
    /^\S{1,253}$/,
    'must be a host, *.domain, an address or a network, each with :port if only that port',
  );

const operatorTool = z.strictObject({
  name: z.string().regex(/^[a-zA-Z][a-zA-Z0-9_-]{0,63}$/, 'must be a word of letters, digits, _ and -'),
  description: z.string().min(1).max(4096),
  command: z.array(z.string().min(1)).min(1).max(64),
  schema: z.record(z.string(), z.unknown()).default({ type: 'object', additionalProperties: false }),
  stdin: z.enum(['none', 'arguments']).default('none'),
  idempotent: z.boolean().default(false),
  read_only: z.boolean().default(false),
  network: z.boolean().default(false),
  limits: limits.prefault({}),
});

const builtInNames = [
  'python',
  'javascript',
  'shell',
  'http_fetch',
  'read_file',
  'write_file',
  'list_files',
] as const;
export type BuiltInName = (typeof builtInNames)[number];

const toolsSettings = z.strictObject({
  minimum: z.enum(tiers).default('namespaces'),
  helper: z.string().default('/usr/local/bin/confine'),
  bubblewrap: z.string().default('/usr/bin/bwrap'),
  run: limits.prefault({}),
  network: z.strictObject({ allow: z.array(allowEntry).max(1000).default([]) }).prefault({}),
  concurrent: count(256).default(8),
  waiting: z.int().min(0).max(10_000).default(64),
  workspaces: z
    .strictObject({
      path: z.string().default(join(tmpdir(), 'outrigger-tools')),
      max_age: duration.prefault('1h'),
      most: count(10_000).default(256),
    })
    .prefault({}),
  results: z
    .strictObject({ max_age: duration.prefault('10m'), max_bytes: size.prefault('64MiB') })
    .prefault({}),
  status: z.strictObject({ listen: listenAddress.nullable().default('127.0.0.1:15030') }).prefault({}),
  mcp: mcpSettings.prefault({}),
  built_in: z.array(z.enum(builtInNames)).default([...builtInNames]),
  defined: z.array(operatorTool).max(200).default([]),
});

export type OperatorTool = z.infer<typeof operatorTool>;
export type ToolsSettings = z.infer<typeof toolsSettings>;
export type LimitSettings = z.infer<typeof limits>;

/** The limits of a tool's runs: what it declares, else what is declared for all, else the usual ones. */
export function limitsOf(all: LimitSettings, own: LimitSettings = {}) {
  const pick = { ...all, ...own };
  return {
    cpuMs: pick.cpu ?? usualLimits.cpuMs,
    wallMs: pick.wall ?? usualLimits.wallMs,
    memory: pick.memory ?? usualLimits.memory,
    processes: pick.processes ?? usualLimits.processes,
    output: pick.output ?? usualLimits.output,
    files: pick.files ?? usualLimits.files,
  };
}

/**
 * Reads TOOLS_CONFIG; without it, everything has its default. TOOLS_MINIMUM, TOOLS_HELPER, TOOLS_BUBBLEWRAP and
 * TOOLS_STATUS_LISTEN have precedence over the file.
 *
 * @throws SettingError that names the key
 */
export function readToolsSettings(environment: Environment): ToolsSettings {
  const file = environment['TOOLS_CONFIG'];
  const given = file ? readFile(file) : {};
  const over: Record<string, unknown> = {};
  if (environment['TOOLS_MINIMUM']) over['minimum'] = environment['TOOLS_MINIMUM'];
  if (environment['TOOLS_HELPER']) over['helper'] = environment['TOOLS_HELPER'];
  if (environment['TOOLS_BUBBLEWRAP']) over['bubblewrap'] = environment['TOOLS_BUBBLEWRAP'];
  if (environment['TOOLS_STATUS_LISTEN']) over['status'] = { listen: environment['TOOLS_STATUS_LISTEN'] };
  return parseToolsSettings({ ...given, ...over }, file ?? 'the environment');
}

/** @throws SettingError that names the key */
function parseToolsSettings(value: unknown, source: string): ToolsSettings {
  const parsed = toolsSettings.safeParse(value);
  if (!parsed.success) {
    const problems = parsed.error.issues.map(({ path, message }) => `tools.${path.join('.')}: ${message}`);
    throw new SettingError(`${source}: ${problems.join('; ')}`);
  }
  const names = parsed.data.defined.map(({ name }) => name);
  const twice = names.find(
    (name, at) => names.indexOf(name) !== at || (builtInNames as readonly string[]).includes(name),
  );
  if (twice !== undefined)
    throw new SettingError(`${source}: tools.defined: "${twice}" is there twice, or is built in`);
  return parsed.data;
}

function readFile(file: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = parse(readFileSync(file, 'utf8')) ?? {};
  } catch (error) {
    throw new SettingError(`TOOLS_CONFIG: ${file} can't be read: ${(error as Error).message}`);
  }
  const tools = (value as { tools?: unknown }).tools ?? {};
  if (typeof tools === 'object' && tools !== null && !Array.isArray(tools))
    return tools as Record<string, unknown>;
  throw new SettingError(`${file}: tools must be a map of settings`);
}
