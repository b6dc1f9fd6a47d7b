/** The settings of the log. */
import * as z from 'zod';
import { flag, oneOf, text } from '../settings/kinds.ts';

export const log = z
  .strictObject({
    level: oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
      .default('info')
      .describe('The lowest level of written lines'),
    access: flag().default(false).describe('Write one line for each call'),
    access_headers: z
      .array(
        text(
          'a header name in lower case that holds no secret: not authorization, cookie, or a key or token',
          /^(?!:|(proxy-)?authorization$|(set-)?cookie$|.*(key|token|secret|password|credential))[a-z0-9_.-]+$/,
        ),
      )
      .max(20)
      .default([])
      .describe('Request headers whose values the lines of the access log have'),
  })
  .prefault({});
