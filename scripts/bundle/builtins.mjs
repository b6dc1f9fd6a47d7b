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
    onResolve({ filter: /^[a-z_/:]+$/ }, ({ path, kind }) =>
      isBuiltin(path) && kind === 'import-statement'
        ? { path: path.replace(/^node:/, ''), namespace: 'builtin', sideEffects: false }
        : undefined,
    );
    onLoad({ filter: /.*/, namespace: 'builtin' }, async ({ path }) => ({
      contents: contentsOf(path, Object.keys(await import(`node:${path}`))),
      loader: 'js',
    }));
  },
};

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
