// `npm run dashboards`: writes the dashboards that Grafana loads. A test checks that the committed files are up to
// date.
import { writeFileSync } from 'node:fs';
import { dashboardFiles } from './files.ts';

for (const [path, text] of dashboardFiles()) {
  writeFileSync(path, text);
  console.log(path);
}
