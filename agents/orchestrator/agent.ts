/** The orchestrator: a thin agent that lets its model call other agents and tools, many at a time, and answers from their results. */
import { serveAgent } from 'outrigger/agent';
import { SettingError } from '../process/environment.ts';
import { orchestrator } from './orchestrator.ts';
import { readOrchestratorSettings } from './settings.ts';

try {
  await serveAgent(orchestrator(readOrchestratorSettings(process.env)));
} catch (error) {
  if (!(error instanceof SettingError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
