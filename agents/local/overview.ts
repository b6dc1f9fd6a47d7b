/** The overview that `npm start` prints. */
import { type LocalSystem, modelUrl } from './system.ts';

/** The addresses and hints that a user of a running system needs. */
export function overview({ agents, gateway, llm, model }: LocalSystem): string {
  const url = `http://127.0.0.1:${gateway.port}`;
  const rows: [string, string][] = [
    ['page', `${url}/`],
    ['API', `${url}/docs`],
  ];
  if (gateway.sidecar !== undefined) {
    const { outbound, admin, metrics, health } = gateway.sidecar;
    rows.push(
      ["gateway's sidecar", `127.0.0.1:${outbound} (gRPC)   admin http://127.0.0.1:${admin}/`],
      ['', `metrics http://127.0.0.1:${metrics}/metrics   health http://127.0.0.1:${health}/healthz/live`],
    );
  }
  for (const { name, port, sidecar } of agents) {
    const beside =
      sidecar === undefined
        ? ''
        : `   sidecar 127.0.0.1:${sidecar.inbound}, admin http://127.0.0.1:${sidecar.admin}/`;
    rows.push([name, `127.0.0.1:${port}${beside}`]);
  }
  for (const { name, listen, admin } of llm)
    rows.push([name, `http://127.0.0.1:${listen}/v1   admin http://127.0.0.1:${admin}/`]);
  rows.push(['model', modelUrl(model)]);
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, what]) => `  ${name.padEnd(width)}  ${what}`).join('\n');
}

/** Whether a real model answers or only our offline provider. */
export function aboutModel({ model }: LocalSystem): string {
  return model.kind === 'offline'
    ? 'OPENAI_API_KEY is not set: the offline provider composes the answers, without a model.'
    : `The agents send model requests to ${model.baseUrl} with the key from OPENAI_API_KEY.`;
}
