/** The settings of the log. */
import * as z from 'zod';
import { flag, oneOf, text } from '../settings/kinds.ts';

export const log = z
  .strictObject({
    level: oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
      .default('info')
      .describe('The least important line that is written'),
    access: flag().default(false).describe('One line a call'),
    access_headers: z
      .array(
        text(
          'a header name in lower case that holds no secret: not authorization, cookie, or a key or token',
          /^(?!:|(proxy-)?authorization$|(set-)?cookie$|.*(key|token|secret|password|credential))[a-z0-9_.-]+$/,
        ),
      )
      .max(20)
      .default([])
      .describe('Request headers whose values are in these lines; none unless named here'),
  })
  .prefault({});
