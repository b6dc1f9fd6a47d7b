/** The control API of the offline provider. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Faults, parseRule } from './faults.ts';
import { readJson } from './read-json.ts';
import { RequestError } from './requests.ts';
import type { StatsCounter } from './stats.ts';

/**
 * The API with which tests and demonstrations control the provider:
 *
 *   POST /control/behaviour  adds a rule (see faults.ts)
 *   GET  /control/behaviour  the rules in force
 *   GET  /control/stats      the requests so far
 *   POST /control/reset      removes the rules and resets the counts
 */
export async function control(
  { request, response }: { request: IncomingMessage; response: ServerResponse },
  path: string,
  faults: Faults,
  stats: StatsCounter,
): Promise<void> {
  const send = (status: number, body: object) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  };
  try {
    switch (`${request.method} ${path}`) {
      case 'POST /control/behaviour':
        faults.add(parseRule(await readJson(request)));
        return send(200, { rules: faults.list() });
      case 'GET /control/behaviour':
        return send(200, { rules: faults.list() });
      case 'GET /control/stats':
        return send(200, stats.read());
      case 'POST /control/reset':
        faults.clear();
        stats.reset();
        return send(200, {});
      default:
        return send(404, { error: { message: `unknown path: ${request.method} ${path}` } });
    }
  } catch (error) {
    const status = error instanceof RequestError ? error.status : 400;
    send(status, { error: { message: error instanceof Error ? error.message : 'bad request' } });
  }
}
