/** Holds what all requests of the MCP egress share. A reload replaces `settings`, so a request reads them once. */
import type { TimerWheel } from '../../clock/timer-wheel.ts';
import type { Journal } from '../../journal/journal.ts';
import type { OwnerCalls } from '../../llm/shared/owner-call.ts';
import type { McpStats } from '../../telemetry/mcp-stats.ts';
import type { McpObserver } from '../shared/mcp-observer.ts';
import type { McpSettings } from '../shared/mcp-settings.ts';
import type { ServerEnvironment } from './mcp-server.ts';

export interface McpEnvironment extends ServerEnvironment {
  readonly wheel: TimerWheel;
  readonly random: () => number;
  readonly stats: McpStats;
  readonly ownerCalls: OwnerCalls | undefined;
  /** Undefined where no answers are kept. */
  readonly journal?: Journal | undefined;
}

export interface McpContext extends McpEnvironment {
  settings: McpSettings;
  observer: McpObserver | undefined;
}
