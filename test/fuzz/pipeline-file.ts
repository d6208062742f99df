/** The pipeline file: any text is a configuration or a list of problems with path and remedy. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { parse, stringify } from 'yaml';
import { describeConfig, parsePipeline } from '../../src/config.ts';
import { configError } from '../../src/config/problem.ts';
import { type FuzzTarget, property } from './fuzz-target.ts';
import { byteDamage, jsonDamage } from './mutation.ts';

const folder = new URL('../../examples/', import.meta.url);
const examples = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.yaml'))
  .map((name) => readFileSync(new URL(name, folder), 'utf8'));

/** What YAML allows and a pipeline file has no use for. */
const ODDITIES = [
  'name: &a [*a]\n',
  'a: &a {<<: *a}\n',
  'name: !!js/function "x"\n',
  'name: !!binary "AAAA"\n',
  '--- \n---\n',
  '%YAML 1.1\n---\nname: yes\n',
  '? [a, b]\n: c\n',
  '? {a: b}\n: c\n',
  'event: {schema: {fields: {? [x] : string}}}\n',
  '"": 1\n',
  'null: 1\n',
  '~: ~\n',
  '__proto__: {name: x}\n',
  'event: {schema: {fields: {__proto__: string, constructor: {type: string, required: true}}}}\n',
  'gold: [{name: x, measures: {__proto__: {fn: count}}}]\n',
  `name: ${'['.repeat(3_000)}\n`,
  `event: {schema: {fields: {a: '${'array<'.repeat(5_000)}'}}}\n`,
  `event: {schema: {fields: {a: '${'struct<a:'.repeat(2_000)}string${'>'.repeat(2_000)}'}}}\n`,
  'a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n' +
    'd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e]\n',
  'name: ${NOT_SET}\n',
  'name: ${SECRET}\n',
  'name: "\\uE0000\\uE001"\n',
  'name: \uE000999\uE001\n',
  'name: ${A:-${B}}\n',
  'commit: {maxLatency: 1e999s, maxRows: 1e400}\n',
  'retention: {bronze: {hot: -1d}}\n',
  'late: 9007199254740993\n',
  '\uFEFFname: x\n',
  'name: "\\ud800"\n',
  '\t\tname: x\n',
  '- a\n- b\n',
  '42\n',
  '',
];

const text = fc.oneof(
  fc
    .tuple(fc.constantFrom(...examples), byteDamage)
    .map(([example, damage]) => damage(Buffer.from(example)).toString()),
  fc
    .tuple(fc.constantFrom(...examples), jsonDamage)
    .map(([example, damage]) => damage(JSON.stringify(parse(example)))),
  fc
    .tuple(fc.constantFrom(...examples), fc.constantFrom(...ODDITIES), fc.boolean())
    .map(([example, oddity, first]) => (first ? oddity + example : example + oddity)),
  fc.constantFrom(...ODDITIES),
  fc.anything({ maxDepth: 4, withNullPrototype: false }).map((value) => {
    try {
      return stringify(value) ?? '';
    } catch {
      return '';
    }
  }),
  fc.string({ unit: 'binary', maxLength: 60 }),
);

const SECRET = 'a-secret-of-the-environment';
const TIME_MS_MAX = 5_000;

function holdsFor(given: string): void {
  const startedMs = performance.now();
  const parsed = parsePipeline(given, { environment: { SECRET }, cwd: '/pipeline' });
  assert.ok(performance.now() - startedMs < TIME_MS_MAX, 'takes too long');
  assert.equal(({} as { name?: unknown }).name, undefined, 'a prototype was changed');
  if (parsed.ok) {
    JSON.stringify(describeConfig(parsed.config));
    return;
  }
  assert.ok(parsed.problems.length > 0, 'refused without a problem');
  for (const { path, line, found, expected } of parsed.problems) {
    assert.equal(typeof path, 'string');
    assert.ok(line === undefined || line >= 1, `line ${line}`);
    assert.ok(found !== '' && expected !== '', `says nothing: ${path}`);
  }
  const { message } = configError('pipeline.yaml', parsed.problems);
  assert.ok(!message.includes(SECRET), 'shows a value of the environment');
}

export const pipelineFile: FuzzTarget = {
  name: 'pipeline-file',
  runs: 700,
  open: () => ({ property: property(text, holdsFor) }),
};
