/** The tools of a runner: the built-in ones that are turned on, and the operator's own. */
import { z } from 'zod';
import { SettingError } from '../../process/environment.ts';
import { AgentError } from '../../runtime/errors.ts';
import { limitsOf, type OperatorTool, type ToolsSettings } from '../settings/settings.ts';
import { builtInTools } from './built-in.ts';
import type { Arguments, Tool } from './tool.ts';

/** Arguments of a call, as JSON. */
const maxArgumentsBytes = 2 * 1024 * 1024;

export class Catalogue {
  readonly tools: readonly Tool[];
  private readonly byName = new Map<string, { tool: Tool; check: z.ZodType }>();

  /**
   * @param node where runs find Node
   * @throws SettingError for a schema that can't be read
   */
  constructor(settings: ToolsSettings, node: string) {
    const builtIn = builtInTools(node, limitsOf(settings.run));
    this.tools = [
      ...settings.built_in.map((name) => builtIn[name]),
      ...settings.defined.map((tool) => operatorTool(tool, settings)),
    ];
    for (const tool of this.tools) this.byName.set(tool.name, { tool, check: checkOf(tool) });
  }

  has(name: string): boolean {
    return this.byName.has(name);
  }

  /** @throws AgentError NOT_FOUND */
  get(name: string): Tool {
    const known = this.byName.get(name);
    if (known !== undefined) return known.tool;
    const names = this.tools.map((tool) => tool.name).join(', ');
    throw new AgentError('NOT_FOUND', `there is no tool "${name.slice(0, 64)}"; there are ${names}`);
  }

  /** Parses and checks the arguments of a call. @throws AgentError INVALID_ARGUMENT that names what is wrong */
  read(tool: Tool, json: string): Arguments {
    if (json.length > maxArgumentsBytes) {
      throw invalid(`the arguments have ${json.length} characters; ${maxArgumentsBytes} are the most`);
    }
    let value: unknown;
    try {
      value = JSON.parse(json === '' ? '{}' : json);
    } catch {
      throw invalid('the arguments are no JSON');
    }
    const checked = this.byName.get(tool.name)!.check.safeParse(value);
    if (checked.success) return checked.data as Arguments;
    const [issue] = checked.error.issues;
    const place = issue?.path.join('.') ?? '';
    throw invalid(
      `the arguments of ${tool.name}${place === '' ? '' : `, ${place}`}: ${issue?.message ?? 'invalid'}`,
    );
  }
}

function invalid(message: string): AgentError {
  return new AgentError('INVALID_ARGUMENT', message, { field: 'arguments' });
}

function checkOf(tool: Tool): z.ZodType {
  try {
    return z.fromJSONSchema(tool.schema as Parameters<typeof z.fromJSONSchema>[0]);
  } catch (error) {
    throw new SettingError(`tools.defined: the schema of "${tool.name}": ${(error as Error).message}`);
  }
}

function operatorTool(given: OperatorTool, settings: ToolsSettings): Tool {
  return {
    name: given.name,
    description: given.description,
    schema: given.schema,
    idempotent: given.idempotent,
    readOnly: given.read_only,
    network: given.network,
    limits: limitsOf(settings.run, given.limits),
    plan: (values) => ({
      kind: 'command',
      command: given.command.map((part) => fill(part, values)),
      ...(given.stdin === 'arguments' ? { stdin: JSON.stringify(values) } : {}),
    }),
  };
}

/** Puts arguments where the command names them: `{query}`. Each part stays one part, and no shell reads it. */
function fill(part: string, values: Arguments): string {
  return part.replace(/\{([a-zA-Z_][a-zA-Z0-9_]*)\}/g, (_, name: string) => {
    const value = values[name] ?? '';
    return typeof value === 'string' ? value : JSON.stringify(value);
  });
}
