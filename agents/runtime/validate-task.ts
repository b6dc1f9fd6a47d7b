/** Validates tasks. */
import type { TaskRequest } from '../protocol/messages.ts';
import { AgentError } from './errors.ts';

/** The highest temperature that any provider accepts. */
const highestTemperature = 2;

/**
 * Refuses invalid tasks before the agent runs.
 *
 * @throws AgentError INVALID_ARGUMENT that names the field
 */
export function validateTask(task: TaskRequest): void {
  if (task.input.trim() === '') throw bad('input', 'must not be empty');
  if (task.max_tokens < 0) throw bad('max_tokens', 'must not be negative');
  if (!(task.temperature >= 0 && task.temperature <= highestTemperature)) {
    throw bad('temperature', `must lie between 0 and ${highestTemperature}`);
  }
}

function bad(field: keyof TaskRequest, what: string): AgentError {
  return new AgentError('INVALID_ARGUMENT', `${field} ${what}`, { field });
}
