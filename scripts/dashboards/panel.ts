// The parts of Grafana's dashboard model (schema 41) that our two dashboards use, and a flowing layout.

type Unit = 'currencyUSD' | 'reqps' | 's' | 'percentunit' | 'short' | 'bytes' | 'cps' | 'none';

interface Query {
  /** PromQL. `$service` is the dashboard's variable; `$__rate_interval` and `$__range` are Grafana's. */
  readonly expr: string;
  readonly legend: string;
  /** Whether to query exemplars: points that link to traces. */
  readonly exemplars?: boolean;
}

interface Panel {
  readonly title: string;
  /** The meaning of the panel, and what to do when the value changes. */
  readonly description: string;
  readonly kind: 'timeseries' | 'stat' | 'state-timeline' | 'table' | 'bargauge';
  readonly unit: Unit;
  readonly queries: readonly Query[];
  /** In columns; Grafana has 24. */
  readonly width: number;
  readonly stack?: boolean;
  /** Each colour applies from its value on; below the first one, green. */
  readonly thresholds?: readonly (readonly [from: number, colour: 'orange' | 'red'])[];
  /** Names for values, such as the names of a state. */
  readonly mappings?: Readonly<Record<string, { readonly text: string; readonly color: string }>>;
}

/** A table of traces, from Tempo. */
interface TracesPanel {
  readonly title: string;
  readonly description: string;
  readonly kind: 'traces';
  /** TraceQL. */
  readonly traceql: string;
  readonly width: number;
}

export interface Row {
  readonly title: string;
  readonly panels: readonly (Panel | TracesPanel)[];
}

export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly rows: readonly Row[];
}

export const CIRCUIT_STATES = {
  '0': { text: 'closed', color: 'green' },
  '1': { text: 'half-open', color: 'orange' },
  '2': { text: 'open', color: 'red' },
};

const PROMETHEUS = { type: 'prometheus', uid: 'prometheus' };
const TEMPO = { type: 'tempo', uid: 'tempo' };
const HEIGHT = { stat: 4, other: 8 };
const COLUMNS = 24;

/** The JSON of Grafana's model. */
export function grafanaModel({ uid, title, description, rows }: Dashboard): object {
  let id = 0;
  let y = 0;
  const panels: object[] = [];
  for (const row of rows) {
    panels.push({
      id: ++id,
      type: 'row',
      title: row.title,
      collapsed: false,
      gridPos: { x: 0, y: y++, w: 24, h: 1 },
      panels: [],
    });
    let x = 0;
    let lineHeight = 0;
    for (const panel of row.panels) {
      const height = panel.kind === 'stat' ? HEIGHT.stat : HEIGHT.other;
      if (x + panel.width > COLUMNS) {
        x = 0;
        y += lineHeight;
        lineHeight = 0;
      }
      const gridPos = { x, y, w: panel.width, h: height };
      panels.push(
        panel.kind === 'traces' ? tracesModel(++id, panel, gridPos) : panelModel(++id, panel, gridPos),
      );
      x += panel.width;
      lineHeight = Math.max(lineHeight, height);
    }
    y += lineHeight;
  }
  return {
    uid,
    title,
    description,
    tags: ['outrigger'],
    schemaVersion: 41,
    version: 1,
    editable: true,
    graphTooltip: 1,
    refresh: '10s',
    time: { from: 'now-30m', to: 'now' },
    timepicker: {},
    timezone: 'browser',
    links: [
      {
        type: 'dashboards',
        tags: ['outrigger'],
        title: 'Outrigger',
        asDropdown: false,
        keepTime: true,
        includeVars: true,
      },
    ],
    annotations: { list: [] },
    templating: { list: [serviceVariable()] },
    panels,
  };
}

function serviceVariable(): object {
  return {
    name: 'service',
    label: 'Service',
    type: 'query',
    datasource: PROMETHEUS,
    query: { query: 'label_values(outrigger_ready, service)', refId: 'service' },
    definition: 'label_values(outrigger_ready, service)',
    refresh: 2,
    sort: 1,
    multi: true,
    includeAll: true,
    allValue: '.*',
    current: { text: 'All', value: '$__all' },
    hide: 0,
    options: [],
    regex: '',
    skipUrlSync: false,
  };
}

function panelModel(id: number, panel: Panel, gridPos: object): object {
  const instant = panel.kind === 'stat' || panel.kind === 'table' || panel.kind === 'bargauge';
  const targets = panel.queries.map(({ expr, legend, exemplars = false }, i) => ({
    refId: String.fromCharCode(65 + i),
    datasource: PROMETHEUS,
    editorMode: 'code',
    expr,
    legendFormat: legend,
    exemplar: exemplars,
    instant,
    range: !instant,
    format: panel.kind === 'table' ? 'table' : 'time_series',
  }));
  return {
    id,
    type: panel.kind,
    title: panel.title,
    description: panel.description,
    datasource: PROMETHEUS,
    gridPos,
    targets,
    fieldConfig: { defaults: fieldDefaults(panel), overrides: [] },
    options: optionsOf(panel),
  };
}

function fieldDefaults(panel: Panel): object {
  const steps = [
    { color: 'green', value: null },
    ...(panel.thresholds ?? []).map(([value, color]) => ({ color, value })),
  ];
  const shared = {
    unit: panel.unit,
    color: { mode: panel.thresholds === undefined ? 'palette-classic' : 'thresholds' },
    thresholds: { mode: 'absolute', steps },
    mappings: panel.mappings === undefined ? [] : [{ type: 'value', options: panel.mappings }],
    min: 0,
  };
  if (panel.kind !== 'timeseries') return { ...shared, noValue: 'none' };
  return {
    ...shared,
    color: { mode: 'palette-classic' },
    custom: {
      drawStyle: 'line',
      lineWidth: 1,
      fillOpacity: panel.stack === true ? 20 : 5,
      showPoints: 'never',
      spanNulls: true,
      stacking: { mode: panel.stack === true ? 'normal' : 'none', group: 'A' },
    },
  };
}

function optionsOf({ kind }: Panel): object {
  switch (kind) {
    case 'timeseries':
      return {
        legend: {
          displayMode: 'table',
          placement: 'bottom',
          showLegend: true,
          calcs: ['lastNotNull', 'max'],
        },
        tooltip: { mode: 'multi', sort: 'desc' },
      };
    case 'state-timeline':
      return {
        mergeValues: true,
        showValue: 'auto',
        legend: { displayMode: 'list', placement: 'bottom', showLegend: true },
        tooltip: { mode: 'single', sort: 'none' },
      };
    case 'table':
      return { showHeader: true };
    case 'stat':
    case 'bargauge':
      return {
        reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
        ...(kind === 'bargauge' ? { orientation: 'horizontal' } : {}),
      };
  }
}

function tracesModel(id: number, { title, description, traceql }: TracesPanel, gridPos: object): object {
  return {
    id,
    type: 'table',
    title,
    description,
    datasource: TEMPO,
    gridPos,
    targets: [
      { refId: 'A', datasource: TEMPO, queryType: 'traceql', query: traceql, limit: 20, tableType: 'traces' },
    ],
    fieldConfig: { defaults: {}, overrides: [] },
    options: { showHeader: true },
  };
}
