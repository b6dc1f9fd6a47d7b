/** The settings that name the agent in metrics, traces and answers. */
import { text } from '../settings/kinds.ts';

/** The name of an agent that has none; many may have it. */
export const UNNAMED = 'agent';

/** `name` and `version`. */
export const service = {
  name: text('a name such as research-agent').default(UNNAMED).describe('Service name in traces and metrics'),
  version: text('a version such as "1.0.0"')
    .default('0.0.0')
    .describe('Version in the answer of HealthCheck'),
};
