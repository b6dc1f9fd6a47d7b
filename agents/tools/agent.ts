/** The tool runner: runs tools in a sandbox that it attacks before it says that it is ready. */
import { mkdirSync } from 'node:fs';
import { endProcess } from '../../sidecar/node/end-process.ts';
import { SettingError } from '../process/environment.ts';
import { createLogger } from '../process/logger.ts';
import { loggedError } from '../process/redact.ts';
import { endOnUnexpectedErrors } from '../process/unexpected.ts';
import { readSettings } from '../runtime/settings.ts';
import { startTracing, stopTracing } from '../tracing/tracing.ts';
import { startToolRunner } from './serve/start.ts';
import { readToolsSettings } from './settings/settings.ts';

const log = createLogger('tools-agent');
endOnUnexpectedErrors(log);
try {
  const settings = readSettings(process.env);
  const tools = readToolsSettings(process.env);
  mkdirSync(tools.workspaces.path, { recursive: true, mode: 0o711 });
  await startTracing('tools-agent', process.env);
  const runner = await startToolRunner(settings, tools, log, process.env);
  let signalled = false;
  const stop = async (signal: NodeJS.Signals) => {
    if (signalled) endProcess(1);
    signalled = true;
    log.info({ signal, limitMs: settings.drainTimeoutMs }, 'shutting down; waiting for the runs');
    const finished = await runner.stop(settings.drainTimeoutMs);
    await stopTracing(1_000);
    log.info({ finished }, 'stopped');
    endProcess(0);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  const { tier, problems } = runner.proof;
  const fields = { address: runner.address, status: runner.status, mcp: runner.mcp, tier, problems };
  if (runner.problem === undefined) log.info(fields, 'listening');
  else log.error(fields, `listening, but not ready: ${runner.problem}`);
} catch (error) {
  if (error instanceof SettingError) log.fatal(error.message);
  else log.fatal({ err: loggedError(error, []) }, 'cannot start');
  process.exitCode = 1;
}
