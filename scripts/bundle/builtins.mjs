// Node's built-in modules in the bundle.
//
// `import { createServer } from 'node:http'` makes Node evaluate every export of the module, also the unused ones. One
// of them is `WebSocket`, which loads Node's fetch: 60 to 70 ms and 14 MB for a sidecar that does not need it. In the
// bundle such an import becomes a lookup of the used names.
import { isBuiltin } from 'node:module';

/** @type {import('esbuild').Plugin} */
export const builtinsByName = {
  name: "Node's own modules by name",
  setup({ onResolve, onLoad }) {
    // Each importer has its own copy, because it should read only the exports that it uses itself.
    onResolve({ filter: /^[a-z_/:]+$/ }, ({ path, kind, importer }) =>
      isBuiltin(path) && kind === 'import-statement'
        ? { path: `${path.replace(/^node:/, '')}?${importer}`, namespace: 'builtin', sideEffects: false }
        : undefined,
    );
    onLoad({ filter: /.*/, namespace: 'builtin' }, async ({ path }) => {
      const name = path.slice(0, path.indexOf('?'));
      return { contents: contentsOf(name, Object.keys(await import(`node:${name}`))), loader: 'js' };
    });
  },
};

/**
 * Precedes each file of the bundle: CommonJS packages `require` Node's built-in modules, and optional packages, which
 * the bundle does not have. Creating Node's own `require` takes a third of a millisecond.
 */
export const requireBuiltin = `const require = (id) => {
  const builtin = process.getBuiltinModule(id);
  if (builtin === undefined) throw Object.assign(new Error("Cannot find module '" + id + "'"), { code: 'MODULE_NOT_FOUND' });
  return builtin;
};`;

/** The bundler removes an unused export that is marked as pure. */
function contentsOf(path, names) {
  const named = names
    .filter((name) => name !== 'default' && name !== 'module.exports')
    .map((name) => `export const ${name} = /* @__PURE__ */ (() => builtin.${name})();`);
  return `const builtin = /* @__PURE__ */ process.getBuiltinModule('node:${path}');
export default builtin;
${named.join('\n')}
`;
}
