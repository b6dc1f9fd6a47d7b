/** The files that the pages of the sidecar and of the gateway share: a page finds them under `/shared/`. */
const SCRIPT = 'text/javascript; charset=utf-8';

/** In the image's bundle, the folder lies beside the bundled code, too. */
const folder = new URL('page/', import.meta.url);

export const sharedPageFiles: readonly { path: string; file: URL; type: string }[] = [
  ...['elements', 'numbers', 'layout', 'topology', 'figures', 'rates', 'history', 'tables'].map((name) => ({
    path: `/shared/${name}.js`,
    file: new URL(`${name}.js`, folder),
    type: SCRIPT,
  })),
  ...['colours', 'picture'].map((name) => ({
    path: `/shared/${name}.css`,
    file: new URL(`${name}.css`, folder),
    type: 'text/css; charset=utf-8',
  })),
];
