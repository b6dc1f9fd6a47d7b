/** The settings of the drain. */
import * as z from 'zod';
import { duration } from '../settings/kinds.ts';

export const drain = z
  .strictObject({
    delay: duration('zero').default('0s').describe('From "not ready" to the first GOAWAY'),
    timeout: duration('zero').default('30s').describe('For calls in flight to finish; then they are ended'),
  })
  .prefault({})
  .describe('What SIGTERM starts');
