/** The list of the generated dashboard files. */
import { join, relative } from 'node:path';
import { type Dashboard, grafanaModel } from './panel.ts';
import { tasksDashboard } from './tasks.ts';
import { trafficDashboard } from './traffic.ts';

const dashboards: readonly Dashboard[] = [trafficDashboard, tasksDashboard];

const folder = join(import.meta.dirname, '../../k8s/observability/files/grafana/dashboards');

/** The relative path of each file, and its text. */
export function dashboardFiles(): readonly (readonly [path: string, text: string])[] {
  return dashboards.map((dashboard) => [
    relative(process.cwd(), join(folder, `${dashboard.uid}.json`)),
    `${JSON.stringify(grafanaModel(dashboard), null, 2)}\n`,
  ]);
}
