/** The tools that every runner has. */
import type { RunLimits } from '../sandbox/limits.ts';
import type { BuiltInName } from '../settings/settings.ts';
import type { Arguments, CommandPlan, Tool } from './tool.ts';

/** Where runs find the runner's own Node. */
export const insideNode = '/opt/outrigger/node';

/** The kernel takes no argument of more than 128 KiB. */
const maxCode = 120_000;
const maxInput = 1_048_576;
const maxPath = 1024;

const code = { type: 'string', minLength: 1, maxLength: maxCode };
const stdin = {
  type: 'string',
  maxLength: maxInput,
  description: 'What the program reads from its standard input',
};
const path = {
  type: 'string',
  minLength: 1,
  maxLength: maxPath,
  description: 'A path in the workspace, such as notes/one.txt',
};

function schema(properties: Record<string, unknown>, required: string[]) {
  return { type: 'object', properties, required, additionalProperties: false };
}

function program(
  description: string,
  interpreter: (code: string) => readonly string[],
  more: Pick<CommandPlan, 'needsNode'> = {},
) {
  return {
    description,
    schema: schema({ code, stdin }, ['code']),
    idempotent: false,
    readOnly: false,
    network: true,
    plan: (given: Arguments): CommandPlan => ({
      kind: 'command',
      command: interpreter(String(given['code'])),
      stdin: String(given['stdin'] ?? ''),
      ...more,
    }),
  };
}

/** Files are read and written inside of the sandbox: a link that a run has left leads nowhere but there. */
function files(script: string, given: Arguments): CommandPlan {
  const stdin = given['content'] === undefined ? {} : { stdin: String(given['content']) };
  return {
    kind: 'command',
    command: ['/bin/sh', '-c', script, 'sh', String(given['path'] ?? '.')],
    ...stdin,
  };
}

/** @param node where runs find Node: its path differs behind different walls */
export function builtInTools(node: string, limits: RunLimits): Record<BuiltInName, Tool> {
  const tools: Record<BuiltInName, Omit<Tool, 'name' | 'limits'>> = {
    python: program(
      'Runs a Python 3 program in a sandbox, and returns what it prints. The current folder is the workspace of the task.',
      (text) => ['/usr/bin/python3', '-I', '-c', text],
    ),
    javascript: program(
      'Runs a JavaScript program (Node, CommonJS) in a sandbox, and returns what it prints. The current folder is the workspace of the task.',
      (text) => [node, '--max-old-space-size=192', '-e', text],
      { needsNode: true },
    ),
    shell: program(
      'Runs a command line by sh in a sandbox, and returns what it prints. The current folder is the workspace of the task.',
      (text) => ['/bin/sh', '-c', text],
    ),
    http_fetch: {
      description:
        'Fetches a web page of an allowed host, and returns its status and text. It follows redirects to allowed hosts.',
      schema: schema(
        {
          url: { type: 'string', minLength: 8, maxLength: 2048, pattern: '^https?://' },
          method: { type: 'string', enum: ['GET', 'HEAD'] },
        },
        ['url'],
      ),
      idempotent: true,
      readOnly: true,
      network: false,
      plan: (given) => ({
        kind: 'fetch',
        url: String(given['url']),
        method: given['method'] === 'HEAD' ? 'HEAD' : 'GET',
      }),
    },
    read_file: {
      description: 'Returns the content of a file of the workspace.',
      schema: schema({ path }, ['path']),
      idempotent: true,
      readOnly: true,
      network: false,
      plan: (given) => files('exec cat -- "$1"', given),
    },
    write_file: {
      description: 'Writes a file of the workspace, with the folders on its way. It replaces what was there.',
      schema: schema({ path, content: { type: 'string', maxLength: maxInput } }, ['path', 'content']),
      idempotent: true,
      readOnly: false,
      network: false,
      plan: (given) => files('mkdir -p -- "$(dirname -- "$1")" && exec cat > "$1"', given),
    },
    list_files: {
      description: 'Lists the files below a folder of the workspace, with their sizes in bytes.',
      schema: schema({ path }, []),
      idempotent: true,
      readOnly: true,
      network: false,
      plan: (given) =>
        files(
          'cd -- "$1" && find . -mindepth 1 -maxdepth 8 -printf "%s\\t%y\\t%P\\n" | sort -k3 | head -n 2000',
          given,
        ),
    },
  };
  return Object.fromEntries(
    Object.entries(tools).map(([name, tool]) => [name, { ...tool, name, limits }]),
  ) as Record<BuiltInName, Tool>;
}
