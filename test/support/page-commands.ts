// Does what a page tells its reader: writes its files, runs its commands, each as it stands there but for the ports.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { runProcess, startProcess, type TestProcess } from '../../scripts/harness/process.ts';
import { AS_STRANGER } from './package.ts';

/** A port of the page, and the one that the test uses for it. */
type Ports = ReadonlyMap<string, number>;

export interface Reader {
  /** The reader's folder. */
  folder: string;
  env: Record<string, string>;
  ports: Ports;
  /** Commands that install: the test has done that, and checks what they name. */
  installs(command: string): boolean;
  /** How a command that stays in the foreground is started; undefined for any other command. */
  starts(command: string): Start | undefined;
}

interface Start {
  /** What the program has in addition in its environment. */
  env: Record<string, string>;
  /** Resolves when it has started. */
  ready(started: TestProcess): Promise<unknown>;
}

export interface Followed {
  /** What ran to its end: the command, and what it printed. */
  ran: { command: string; output: string }[];
  /** What still runs: the command, and its process. */
  running: Map<string, TestProcess>;
}

/** The part of a page below a heading of the second level. */
export function sectionOf(page: string, heading: string): string {
  const [, text] = new RegExp(`^## ${heading}\\n([\\s\\S]*?)(?=^## |$(?![\\s\\S]))`, 'm').exec(page) ?? [];
  if (text === undefined) throw new Error(`the page has no section "${heading}"`);
  return text;
}

/** Follows a section from its first block to its last. @throws Error for a command that fails */
export async function follow(t: Test, section: string, reader: Reader): Promise<Followed> {
  const followed: Followed = { ran: [], running: new Map() };
  for (const [, language, block = ''] of section.matchAll(/^```(\w+)\n(.*?)^```/gms)) {
    const text = withPorts(block, reader.ports);
    if (language !== 'sh') write(reader.folder, text);
    else
      for (const line of text.trim().split('\n'))
        await run(t, line.replace(/ {2,}# .*$/, ''), reader, followed);
  }
  return followed;
}

/** Runs one command as its reader's shell does. */
export function inShell(t: Test, command: string, { folder, env }: Reader): ReturnType<typeof runProcess> {
  return runProcess(t, 'env', [...AS_STRANGER, 'sh', '-c', command], { cwd: folder, env });
}

async function run(t: Test, command: string, reader: Reader, { ran, running }: Followed): Promise<void> {
  const parts = command.split(' && ');
  // What is left of a line after its installations.
  const rest = parts.filter((part) => !reader.installs(part)).join(' && ');
  if (rest === '') return;
  const start = reader.starts(rest);
  if (start === undefined) {
    const { code, output } = await inShell(t, rest, reader);
    if (code !== 0) throw new Error(`"${rest}" ended with ${code}:\n${output}`);
    ran.push({ command: rest, output });
    return;
  }
  // exec, and the program that npx would start: the end of the test ends a process, and not its children.
  const [, variables = '', program = ''] = /^((?:\w+=\S+ )*)(?:npx )?(.*)$/.exec(rest) ?? [];
  const child = startProcess(t, 'env', [...AS_STRANGER, 'sh', '-c', `${variables}exec ${program}`], {
    cwd: reader.folder,
    env: { ...reader.env, ...start.env },
  });
  running.set(rest, child);
  await start.ready(child);
}

/** A block that is a file names it in its first line. */
function write(folder: string, text: string): void {
  const [, name] = /^(?:\/\/|#) ([\w.-]+)\n/.exec(text) ?? [];
  if (name !== undefined) writeFileSync(join(folder, name), text);
}

function withPorts(text: string, ports: Ports): string {
  const inbound = `127.0.0.1:${ports.get('15006')}`;
  const named = text.replaceAll('python -m outrigger_agent ', `$&--address ${inbound} `);
  return named.replaceAll(/127\.0\.0\.1:(\d+)/g, (whole, port) => {
    const own = ports.get(port);
    return own === undefined ? whole : `127.0.0.1:${own}`;
  });
}
