/** `npm start`: runs the whole local system on one machine. arguments.ts has its usage. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SettingError } from '../process/environment.ts';
import { parseArguments, type StartArguments, UsageError, usage } from './arguments.ts';
import { startControl } from './control.ts';
import type { Layout } from './layouts/layout.ts';
import { slowLongTask } from './long-task.ts';
import { runTask } from './one-task.ts';
import { aboutModel, overview } from './overview.ts';
import { Ports } from './ports.ts';
import { controlSocket, describeProcesses } from './processes.ts';
import { Replicas } from './replicas.ts';
import { prepareSandbox } from './sandbox.ts';
import { Sender } from './sender.ts';
import { Supervisor } from './supervisor.ts';
import { planSystem } from './system.ts';
import { toolProblems } from './tool-problems.ts';

/** Wrong usage, as in BSD's sysexits. */
const exitUsage = 64;
/** The exit code that shells use after Ctrl-C. */
const exitInterrupted = 130;

async function main(argv: readonly string[]): Promise<number> {
  const given = parseArguments(argv);
  if (given.help) {
    console.log(usage);
    return 0;
  }
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-'));
  const supervisor = new Supervisor({
    ...(given.logs ? { onLine: (name, line) => console.log(`[${name}] ${line}`) } : {}),
    onEnded: (name, how, lastWords) => console.error(`\n${name} ${how}. Its last lines:\n${lastWords}\n`),
  });
  // Without a task, an interrupt is the normal end.
  const interrupted = untilInterrupted(supervisor, given.task === undefined ? 0 : exitInterrupted);
  try {
    return await Promise.race([run(given, folder, supervisor, interrupted), interrupted]);
  } finally {
    for (const name of await supervisor.stop()) console.error(`${name} did not end in time and was killed.`);
    rmSync(folder, { recursive: true, force: true });
  }
}

async function run(
  given: StartArguments,
  folder: string,
  supervisor: Supervisor,
  interrupted: Promise<number>,
): Promise<number> {
  const ports = await Ports.open();
  const usesMcp = !given.withoutSidecars && given.layout.members.some(({ usesTools }) => usesTools === 'mcp');
  const mcp = usesMcp ? { port: await ports.any(), key: randomBytes(24).toString('base64url') } : undefined;
  const layout = await withoutMissing(given, folder, mcp?.port);
  const system = await planSystem(process.env, ports, !given.withoutSidecars, layout, mcp);
  for (const notice of ports.notices) console.log(notice);
  console.log(aboutModel(system));
  for (const notice of given.withoutSidecars ? [] : (given.layout.notices ?? [])) console.log(notice);
  await supervisor.start(describeProcesses(system, process.env, folder));
  for (const notice of await toolProblems(system)) console.log(notice);

  if (given.task === undefined) {
    await slowLongTask(system);
    const replicas = new Replicas(supervisor, [...system.agents, ...system.llm]);
    const sender = new Sender(
      `http://127.0.0.1:${system.gateway.port}`,
      system.model.kind !== 'offline',
      given.layout.questions,
    );
    await startControl(controlSocket(folder), system, replicas, sender);
    console.log(`\nThe local system is running. Ctrl-C stops it.\n\n${overview(system)}\n`);
    return interrupted;
  }
  const { output, status, taskId, latencyMs, route } = await runTask(system, given.task, given.agent);
  const failed = ['FAILED', 'TIMEOUT', 'ERROR'].includes(status);
  const report = `${output}\n\n${status} after ${latencyMs} ms, task ${taskId}\nRoute:\n  ${route.join('\n  ')}`;
  if (failed) console.error(`\n${report}`);
  else console.log(`\n${report}`);
  return failed ? 1 : 0;
}

/** The layout that can run here: members that need a sandbox are left out where none can be made. */
async function withoutMissing(
  { layout, withoutSidecars }: StartArguments,
  folder: string,
  mcpPort: number | undefined,
): Promise<Layout> {
  if (!layout.members.some(({ needsSandbox }) => needsSandbox === true)) return layout;
  const sandbox = withoutSidecars
    ? { problem: 'agents reach it through their sidecars' }
    : await prepareSandbox(folder, mcpPort);
  if ('problem' in sandbox) {
    console.log(`The tool runner is left out: ${sandbox.problem}.`);
    const members = layout.members
      .filter(({ needsSandbox }) => needsSandbox !== true)
      .map(({ usesTools: _, ...member }) => member);
    return { ...layout, members };
  }
  const env = { TOOLS_CONFIG: sandbox.configFile };
  const members = layout.members.map((one) =>
    one.needsSandbox === true ? { ...one, env: { ...one.env, ...env } } : one,
  );
  return { ...layout, members };
}

/** The first signal stops the system in order, with the given exit code; a second one stops it at once. */
function untilInterrupted(supervisor: Supervisor, exitCode: number): Promise<number> {
  return new Promise((resolve) => {
    let asked = false;
    const stop = () => {
      if (asked) {
        supervisor.kill();
        process.exit(1);
      }
      asked = true;
      console.log('\nStopping.');
      resolve(exitCode);
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
    onceNpmIsGone(() => !asked && stop());
  });
}

/** npm forwards Ctrl-C but not a signal to npm itself: when npm ends otherwise, this process has a new parent. */
function onceNpmIsGone(stop: () => void): void {
  if (process.env['npm_lifecycle_event'] === undefined) return;
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    stop();
  }, 500);
  timer.unref();
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const expected = error instanceof UsageError || error instanceof SettingError;
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = expected ? exitUsage : 1;
}
// Signal handlers and fetch's idle sockets would keep it alive.
process.exit();
