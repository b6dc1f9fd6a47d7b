/**
 * Outcomes of tasks as plain numbers: by agent and outcome, with the tokens that they used. `admin/metrics/` shows them as
 * `outrigger_tasks_total` and `outrigger_tokens_total`.
 */
import { Status, type StatusCode } from '../grpc/status.ts';
import { OutcomeScanner } from '../task/outcome-scanner.ts';
import { PROCESS_TASK_PATH, TASK_STATUS_NAMES, TaskStatus } from '../task/task-message.ts';

/** The agents beyond this number share one count. */
const MAX_AGENTS = 100;
const OTHER_AGENT = '_OTHER';

const ERROR = TASK_STATUS_NAMES.length;
const UNKNOWN = ERROR + 1;

/**
 * A task's outcome is its `agent.Status`; or ERROR when the RPC failed and there is no answer; or UNKNOWN when we can't
 * read the answer (malformed, compressed beyond the limit of decompression, or a status of a newer protocol).
 */
export const TASK_OUTCOMES: readonly string[] = [...TASK_STATUS_NAMES, 'ERROR', 'UNKNOWN'];

/** The tasks of one agent. */
export class AgentTasks {
  readonly agent: string;
  /** Ended tasks, by the index of the outcome in {@link TASK_OUTCOMES}. */
  readonly byOutcome = new Float64Array(TASK_OUTCOMES.length);
  /** Tokens of answers that the caller received and can use. */
  usefulTokens = 0;
  /** Tokens of answers that no caller received (cancelled, or past the deadline), or that say FAILED or TIMEOUT. */
  wastedTokens = 0;

  constructor(agent: string) {
    this.agent = agent;
  }
}

/** Follows one task's call from its beginning. The call feeds it the response that goes downstream. */
export interface TaskObserver {
  /** The response's `grpc-encoding`; '' without one. Called before the first message. */
  onResponseHead(encoding: string): void;
  /** The next bytes of the response's DATA frames. */
  onResponseData(buffer: Buffer, start: number, end: number): void;
  /** `TaskResponse.status` if it was readable; -1 otherwise. */
  readonly taskStatus: number;
  /** `TaskResponse.tokens_used` if it was readable; 0 otherwise. */
  readonly tokensUsed: number;
  /**
   * The call has ended with this status, from the endpoint or the sidecar. Called once.
   *
   * @param modelTokens the tokens that the LLM egress counted for it; they count where no answer reports its tokens
   * @param wanted false when the caller's connection was lost and no caller came back for the answer
   */
  onEnd(status: StatusCode, modelTokens: number, wanted: boolean): void;
}

/** The tasks of one listener, by agent. */
export class TaskStats {
  readonly agents = new Map<string, AgentTasks>();

  /** Observes one call of a task to this agent. @param path the method: `ProcessTask`'s or `StreamProcess`'s */
  observe(agent: string, path: string): TaskObserver {
    const tasks = this.of(agent);
    return path === PROCESS_TASK_PATH ? new ObservedTask(tasks) : new ObservedStream(tasks);
  }

  private of(agent: string): AgentTasks {
    const known = this.agents.get(agent);
    if (known !== undefined) return known;
    const name = this.agents.size < MAX_AGENTS ? agent : OTHER_AGENT;
    let tasks = this.agents.get(name);
    if (tasks === undefined) {
      tasks = new AgentTasks(name);
      this.agents.set(name, tasks);
    }
    return tasks;
  }
}

class ObservedTask implements TaskObserver {
  private readonly tasks: AgentTasks;
  private readonly scanner = new OutcomeScanner();

  constructor(tasks: AgentTasks) {
    this.tasks = tasks;
  }

  onResponseHead(encoding: string): void {
    this.scanner.encoding = encoding;
  }

  onResponseData(buffer: Buffer, start: number, end: number): void {
    this.scanner.feed(buffer, start, end);
  }

  get taskStatus(): number {
    return this.scanner.seen ? this.scanner.status : -1;
  }

  get tokensUsed(): number {
    return this.scanner.seen ? Math.max(0, this.scanner.tokensUsed) : 0;
  }

  onEnd(status: StatusCode, modelTokens: number, wanted: boolean): void {
    const { tasks, scanner } = this;
    const tokens = scanner.seen ? this.tokensUsed : modelTokens;
    if (status !== Status.OK) {
      tasks.byOutcome[ERROR]!++;
      tasks.wastedTokens += tokens;
      return;
    }
    const known = scanner.seen && scanner.status >= 0 && scanner.status < TASK_STATUS_NAMES.length;
    tasks.byOutcome[known ? scanner.status : UNKNOWN]!++;
    const failed = known && (scanner.status === TaskStatus.FAILED || scanner.status === TaskStatus.TIMEOUT);
    if (failed || !wanted) tasks.wastedTokens += tokens;
    else tasks.usefulTokens += tokens;
  }
}

/** Chunks carry neither status nor tokens: those come from the call's own status and the egress. */
class ObservedStream implements TaskObserver {
  readonly taskStatus = -1;
  readonly tokensUsed = 0;
  private readonly tasks: AgentTasks;

  constructor(tasks: AgentTasks) {
    this.tasks = tasks;
  }

  onResponseHead(): void {}

  onResponseData(): void {
    // A chunk holds nothing that we count.
  }

  onEnd(status: StatusCode, modelTokens: number, wanted: boolean): void {
    const { tasks } = this;
    tasks.byOutcome[status === Status.OK ? TaskStatus.SUCCESS : ERROR]!++;
    if (status === Status.OK && wanted) tasks.usefulTokens += modelTokens;
    else tasks.wastedTokens += modelTokens;
  }
}
