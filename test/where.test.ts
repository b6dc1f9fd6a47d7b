// Holds the table "Where is …?" of CONTRIBUTING.md to the code: each answer names a file that exists and what it declares.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

const root = join(import.meta.dirname, '..');
const LEAST_QUESTIONS = 20;
/** `| question | [file](file), `Class.method` or `name` |` */
const ROW = /^\| (.+\?) \| \[`([^`]+)`\]\(([^)]+)\): (.+) \|$/gm;

/** Whether a file declares a function, class, constant, type or method of this name. */
function declares(source: string, name: string): boolean {
  const [owner, method] = name.split('.') as [string, string | undefined];
  const isDeclared = new RegExp(`\\b(?:function|class|const|interface|type) ${owner}\\b`).test(source);
  if (method === undefined) return isDeclared;
  const member = new RegExp(
    `^  (?:private |public |readonly |static |async |get |override )*#?${method}\\b\\s*[(<=]`,
    'm',
  );
  return isDeclared && member.test(source);
}

t.test('a file and a name that exist answer every question of CONTRIBUTING.md', async (t) => {
  const rows = [...readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8').matchAll(ROW)];
  t.ok(rows.length >= LEAST_QUESTIONS, `${rows.length} questions`);
  for (const [, question, file, link, names] of rows) {
    t.equal(link, file, `${question} links the file that it names`);
    if (!existsSync(join(root, file!))) {
      t.fail(`${question} ${file} does not exist`);
      continue;
    }
    const source = readFileSync(join(root, file!), 'utf8');
    for (const [, name] of names!.matchAll(/`([^`]+)`/g))
      t.ok(declares(source, name!), `${question} ${file} declares ${name}`);
  }
});

t.test('the test finds no name that is not declared', async (t) => {
  const source =
    'export class Call {\n  onResponseEnd(attempt: Attempt): void {}\n}\nconst limit = callOther();\n';
  t.ok(declares(source, 'Call.onResponseEnd'));
  t.ok(declares(source, 'limit'));
  t.notOk(declares(source, 'Call.onResponse'));
  t.notOk(declares(source, 'callOther'));
});
