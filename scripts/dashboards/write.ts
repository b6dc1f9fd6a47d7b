// `npm run dashboards`: writes the dashboards that Grafana is provisioned with. A test holds the committed files equal.
import { writeFileSync } from 'node:fs';
import { dashboardFiles } from './files.ts';

for (const [path, text] of dashboardFiles()) {
  writeFileSync(path, text);
  console.log(path);
}
