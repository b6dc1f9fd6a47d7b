// Node's own modules, as a bundle should ask for them.
//
// `import { createServer } from 'node:http'` makes Node read every export of the module, those that nobody asked for
// too. One of them is `WebSocket`, which loads Node's fetch: 60 to 70 ms and 14 MB for a sidecar that needs none of it.
// In the bundle such an import becomes a look-up of the names that are used.
import { isBuiltin } from 'node:module';

/** @type {import('esbuild').Plugin} */
export const builtinsByName = {
  name: "Node's own modules by name",
  setup({ onResolve, onLoad }) {
    // Each importer has its own, for what one of them uses need not be read for another.
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
 * Before each file of the bundle: CommonJS packages ask by `require` for Node's own modules, and for what they can do
 * without, which there is none of here. Node's `require` takes a third of a millisecond to make.
 */
export const requireBuiltin = `const require = (id) => {
  const builtin = process.getBuiltinModule(id);
  if (builtin === undefined) throw Object.assign(new Error("Cannot find module '" + id + "'"), { code: 'MODULE_NOT_FOUND' });
  return builtin;
};`;

/** What is marked as pure is left out by the bundler where nobody uses it. */
function contentsOf(path, names) {
  const named = names
    .filter((name) => name !== 'default' && name !== 'module.exports')
    .map((name) => `export const ${name} = /* @__PURE__ */ (() => builtin.${name})();`);
  return `const builtin = /* @__PURE__ */ process.getBuiltinModule('node:${path}');
export default builtin;
${named.join('\n')}
`;
}
