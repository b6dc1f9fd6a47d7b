/** The settings of the drain. */
import * as z from 'zod';
import { duration } from '../settings/kinds.ts';

export const drain = z
  .strictObject({
    delay: duration('zero').default('0s').describe('Time from "not ready" to the first GOAWAY'),
    timeout: duration('zero')
      .default('30s')
      .describe('Time that calls in flight have to finish; then the sidecar ends them'),
  })
  .prefault({})
  .describe('The drain, which SIGTERM starts');
