/** Carries out calls of tools: checks them, waits for a place, runs them in the sandbox, and says what came of it. */
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { AgentError } from '../../runtime/errors.ts';
import { insideNode } from '../catalogue/built-in.ts';
import { Catalogue } from '../catalogue/catalogue.ts';
import type { CommandPlan, FetchPlan, Tool } from '../catalogue/tool.ts';
import { AllowList, NotAllowed } from '../network/allow-list.ts';
import { fetchAllowed, TooLong } from '../network/fetch.ts';
import { serveProxy } from '../network/proxy.ts';
import { describeLimit, type LimitName } from '../sandbox/limits.ts';
import { type RunEnd, type RunOptions, runBehind } from '../sandbox/sandboxed-run.ts';
import type { Proof } from '../sandbox/self-attack.ts';
import { isAtLeast } from '../sandbox/tiers.ts';
import { Workspaces } from '../sandbox/workspaces.ts';
import type { ToolsSettings } from '../settings/settings.ts';
import { BegunCalls } from './begun.ts';
import { Once, unknownOutcome } from './once.ts';
import { Places } from './places.ts';
import type { RunCounts } from './run-counts.ts';
import type { ToolOutcome, ToolRequest } from './tool-run.ts';

const noUsage = { wallMs: 0, cpuMs: 0, memory: 0, processes: 0 };

type OnOutput = NonNullable<RunOptions['onOutput']>;

export class Runner {
  readonly catalogue: Catalogue;
  readonly proof: Proof;
  readonly settings: ToolsSettings;
  private readonly workspaces: Workspaces;
  private readonly places: Places;
  private readonly once: Once;
  private readonly allow: AllowList;
  private readonly counts: RunCounts;

  /** @throws SettingError; Error where the folder of workspaces can't be made */
  constructor(settings: ToolsSettings, proof: Proof, counts: RunCounts) {
    this.settings = settings;
    this.proof = proof;
    this.counts = counts;
    this.catalogue = new Catalogue(settings, proof.walls === 'namespaces' ? insideNode : process.execPath);
    this.allow = new AllowList(settings.network.allow);
    const { path, max_age: maxAgeMs, most } = settings.workspaces;
    this.workspaces = new Workspaces({ path, maxAgeMs, most });
    this.places = new Places(settings.concurrent, settings.waiting);
    const { max_age: keptMs, max_bytes: maxBytes } = settings.results;
    const begun = new BegunCalls(join(path, 'begun'), keptMs, Date.now());
    this.once = new Once({ maxAgeMs: keptMs, maxBytes }, begun);
  }

  /** Why no tool runs; undefined while the sandbox holds. */
  get problem(): string | undefined {
    const { tier, problems } = this.proof;
    const { minimum } = this.settings;
    if (isAtLeast(tier, minimum)) return undefined;
    const why = problems.length > 0 ? problems.join('; ') : 'no gVisor or Kata is around this container';
    return `the sandbox reached the tier "${tier}", and tools.minimum is "${minimum}": ${why}`;
  }

  /**
   * Runs a tool, or finds the run that the same call had.
   *
   * @throws AgentError
   */
  async run(request: ToolRequest, signal: AbortSignal, onOutput?: OnOutput): Promise<ToolOutcome> {
    const tool = this.catalogue.get(request.tool);
    try {
      const given = this.catalogue.read(tool, request.arguments);
      if (this.problem !== undefined) {
        throw new AgentError('UNAVAILABLE', this.problem, { trailers: { 'agent-error-reason': 'sandbox' } });
      }
      const plan = tool.plan(given);
      if (plan.kind === 'command') checkCommand(tool.name, plan.command);
      const outcome = await this.once.call(request, tool.idempotent, signal, (ending) =>
        this.inPlace(tool, plan, request, ending, onOutput),
      );
      this.counts.count(tool.name, outcome.replayed ? 'replayed' : outcome.failed ? 'failed' : 'succeeded');
      return outcome;
    } catch (error) {
      this.counts.count(tool.name, outcomeName(error));
      throw error;
    }
  }

  close(): void {
    this.workspaces.close();
  }

  private async inPlace(
    tool: Tool,
    plan: CommandPlan | FetchPlan,
    request: ToolRequest,
    signal: AbortSignal,
    onOutput: OnOutput | undefined,
  ): Promise<ToolOutcome> {
    const release = await this.places.take(signal);
    const startedMs = performance.now();
    try {
      const result =
        plan.kind === 'fetch'
          ? await this.fetch(tool, plan, signal)
          : await this.execute(tool, plan, request, signal, onOutput);
      const latencyMs = Math.round(performance.now() - startedMs);
      return { tool: tool.name, arguments: request.arguments, latencyMs, replayed: false, ...result };
    } finally {
      release();
    }
  }

  private async execute(
    tool: Tool,
    plan: CommandPlan,
    request: ToolRequest,
    signal: AbortSignal,
    onOutput: OnOutput | undefined,
  ): Promise<Pick<ToolOutcome, 'failed' | 'exitCode' | 'stdout' | 'stderr' | 'usage'>> {
    const key = request.taskId === '' ? undefined : JSON.stringify([request.caller, request.taskId]);
    const workspace = this.workspaces.take(key);
    try {
      for (let attempt = 1; ; attempt++) {
        const end = await this.behindWalls(tool, plan, workspace.path, signal, onOutput);
        // Its output has gone out already where somebody listens: a second one would follow it.
        if (end.kind === 'lost' && tool.idempotent && attempt === 1 && onOutput === undefined) continue;
        return this.resultOf(end, tool, signal);
      }
    } finally {
      workspace.release();
    }
  }

  private behindWalls(
    tool: Tool,
    plan: CommandPlan,
    workspace: string,
    signal: AbortSignal,
    onOutput: OnOutput | undefined,
  ): Promise<RunEnd> {
    const hasProxy = tool.network && !this.allow.isEmpty;
    const launch = {
      command: plan.command,
      workspace,
      programs: plan.needsNode ? [{ outside: process.execPath, inside: insideNode }] : [],
      limits: tool.limits,
      hasProxy,
    };
    return runBehind(this.proof.walls!, this.proof.programs, launch, {
      signal,
      ...(plan.stdin === undefined ? {} : { stdin: plan.stdin }),
      ...(onOutput === undefined ? {} : { onOutput }),
      onProxy: (connection: Duplex) => serveProxy(connection, this.allow, tool.limits.files, signal),
    });
  }

  private resultOf(end: RunEnd, tool: Tool, signal: AbortSignal) {
    switch (end.kind) {
      case 'exited': {
        const { code: exitCode, stdout, stderr, usage } = end;
        return { failed: exitCode !== 0, exitCode, stdout, stderr, usage };
      }
      case 'limit':
        throw exceeded(tool, end.limit);
      case 'cancelled':
        if (!end.started || tool.idempotent) throw signal.reason;
        // For whoever sends the call again: the caller that left has its own reason.
        throw unknownOutcome(tool.name, 'its caller left');
      case 'not_started':
        if (end.isProgram) {
          const message = `${tool.name} can't start its program: ${end.failure}`;
          throw new AgentError('FAILED_PRECONDITION', message, { retryAfterMs: -1 });
        }
        throw new AgentError('UNAVAILABLE', `the sandbox did not start: ${end.failure}`, {
          trailers: { 'agent-error-reason': 'sandbox' },
        });
      case 'lost':
        throw unknownOutcome(tool.name, 'its run was ended from outside');
    }
  }

  private async fetch(tool: Tool, { url, method }: FetchPlan, signal: AbortSignal) {
    if (!URL.canParse(url)) throw new AgentError('INVALID_ARGUMENT', 'url is no URL', { field: 'arguments' });
    const late = AbortSignal.timeout(tool.limits.wallMs);
    try {
      const both = AbortSignal.any([signal, late]);
      const page = await fetchAllowed(this.allow, url, method, tool.limits.output, both);
      const head = `HTTP ${page.status} ${page.type}\n${page.url}\n\n`;
      const stdout = Buffer.concat([Buffer.from(head), page.body]);
      return {
        failed: page.status >= 400,
        exitCode: page.status >= 400 ? 22 : 0,
        stdout,
        stderr: empty,
        usage: noUsage,
      };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (late.aborted) throw exceeded(tool, 'wall');
      if (error instanceof TooLong) throw exceeded(tool, 'output');
      if (error instanceof NotAllowed) {
        throw new AgentError('PERMISSION_DENIED', `http_fetch: ${error.message}`, {
          retryAfterMs: -1,
          cause: error,
        });
      }
      const { code, message } = error as NodeJS.ErrnoException;
      const stderr = Buffer.from(`the request failed: ${code ?? message}\n`);
      return { failed: true, exitCode: 7, stdout: empty, stderr, usage: noUsage };
    }
  }
}

const empty = Buffer.alloc(0);

/** What the kernel starts a program with. */
const maxPartBytes = 131_071;
const maxCommandBytes = 1_048_576;

/** @throws AgentError INVALID_ARGUMENT for arguments that no program can be started with */
function checkCommand(tool: string, command: readonly string[]): void {
  const refuse = (problem: string) => {
    throw new AgentError('INVALID_ARGUMENT', `the arguments of ${tool} ${problem}`, { field: 'arguments' });
  };
  let sum = 0;
  for (const part of command) {
    const bytes = Buffer.byteLength(part);
    sum += bytes;
    if (part.includes('\0')) refuse('have a character with the code 0');
    if (bytes > maxPartBytes)
      refuse(`have ${bytes} bytes in one part of the command; ${maxPartBytes} are the most`);
  }
  if (sum > maxCommandBytes) refuse(`have ${sum} bytes; ${maxCommandBytes} are the most`);
}

function exceeded(tool: Tool, limit: LimitName): AgentError {
  const message = `the run of ${tool.name} exceeded its limit of ${describeLimit(limit, tool.limits)}`;
  return new AgentError('RESOURCE_EXHAUSTED', message, {
    retryAfterMs: -1,
    trailers: { 'agent-error-limit': limit },
  });
}

/** The label `outcome` of outrigger_tool_runs_total. */
function outcomeName(error: unknown): string {
  if (!(error instanceof AgentError)) return 'error';
  if (error.trailers['agent-error-limit'] !== undefined)
    return `limit_${error.trailers['agent-error-limit']}`;
  return error.trailers['agent-error-reason'] ?? error.code.toLowerCase();
}
