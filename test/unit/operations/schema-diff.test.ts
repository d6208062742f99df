/** What a pipeline file changes in tables that are there, and which files may write (DS1, DS2, SD1, SD2). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parsePipeline } from '../../../src/config.ts';
import {
  aggregateProperties,
  declaredAggregate,
  declaredEvents,
  eventOfAllSchemas,
  otherEvents,
  requireDeclaredAggregate,
  requireDeclaredEvent,
  schemaProperties,
} from '../../../src/engine/declared-schema.ts';
import { PipelineError } from '../../../src/errors.ts';
import { diffSchema, type SchemaDiff } from '../../../src/operations/schema/schema-diff.ts';
import { goldTableSchema } from '../../../src/pipeline/gold/gold-schema.ts';
import type { PipelineConfig } from '../../../src/pipeline/pipeline-config.ts';
import { silverTableSchema } from '../../../src/pipeline/silver/tables.ts';
import type { Snapshot } from '../../../src/storage/delta/snapshot.ts';

function configOf(
  version: number,
  fields: string,
  gold = 'n: {fn: count}',
  window = '1h',
): PipelineConfig {
  const parsed = parsePipeline(
    `
name: usage
event:
  id: id
  time: at
  schema: {version: ${version}, fields: {id: string, at: timestamp, ${fields}}}
gold:
  - {name: hourly, window: ${window}, groupBy: [customer], measures: {${gold}}}
`,
    { environment: {}, cwd: '/' },
  );
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.config;
}

const BASE = 'customer: string, size: integer, price: "decimal(8,2)"';
const V1 = configOf(1, BASE);

/** Tables as `openTables` makes them. */
function tablesOf(config: PipelineConfig, more: Readonly<Record<string, string>> = {}) {
  const [aggregate] = config.gold;
  return {
    silver: {
      schema: silverTableSchema(config.event),
      configuration: { ...schemaProperties(config.event), ...more },
    } as unknown as Snapshot,
    gold: {
      schema: goldTableSchema(aggregate!, config.event),
      configuration: aggregateProperties(aggregate!),
    } as unknown as Snapshot,
  };
}

function diff(from: PipelineConfig, to: PipelineConfig): SchemaDiff {
  const { silver, gold } = tablesOf(from);
  return diffSchema(
    { root: 'silver/usage', snapshot: silver },
    new Map([['hourly', { root: 'gold/hourly', snapshot: gold }]]),
    to,
  );
}

/** Changes in short: `added plan`, `! retyped size`. */
function changesOf({ silver, gold }: SchemaDiff): string[] {
  return [silver, ...gold].flatMap(({ changes }) =>
    changes.map(({ kind, name, compatible }) => `${compatible ? '' : '! '}${kind} ${name}`),
  );
}

const CASES: readonly (readonly [string, PipelineConfig, readonly string[]])[] = [
  ['nothing', V1, []],
  [
    'the order of fields',
    configOf(1, 'price: "decimal(8,2)", size: integer, customer: string'),
    [],
  ],
  ['a field more', configOf(2, `${BASE}, plan: string`), ['added plan']],
  ['a field less', configOf(2, 'customer: string, size: integer'), ['removed price']],
  ['a wider integer', configOf(2, BASE.replace('integer', 'long')), ['! widened size']],
  ['a wider decimal', configOf(2, BASE.replace('8,2', '10,4')), ['! widened price']],
  ['a narrower decimal', configOf(2, BASE.replace('8,2', '8,4')), ['! retyped price']],
  ['another type', configOf(2, BASE.replace('integer', 'string')), ['! retyped size']],
  [
    'a required field',
    configOf(2, BASE.replace('size: integer', 'size: {type: integer, required: true}')),
    ['now required size'],
  ],
  [
    'fields under the same version',
    configOf(1, `${BASE}, plan: string`),
    ['added plan', '! version event.schema.version'],
  ],
  [
    'a measure more',
    configOf(1, BASE, 'n: {fn: count}, size: {fn: sum, field: size}'),
    ['added size'],
  ],
  ['a measure less', configOf(1, BASE, 'm: {fn: count}'), ['added m', 'removed n']],
  [
    'a measure of another field',
    configOf(1, BASE, 'n: {fn: countDistinct, field: size}'),
    ['! retyped n'],
  ],
  ['other windows', configOf(1, BASE, 'n: {fn: count}', '1d'), ['! window window']],
];

for (const [what, to, expected] of CASES) {
  test(`schema check: ${what}`, () => {
    const found = diff(V1, to);
    assert.deepEqual(changesOf(found), expected);
    assert.equal(found.compatible, !expected.some((change) => change.startsWith('!')));
  });
}

test('DS1, DS2 only a file whose schema was applied, as it was applied, may write', () => {
  const v2 = configOf(2, `${BASE}, plan: string`);
  const { silver } = tablesOf(v2, schemaProperties(V1.event));
  const both = {
    ...silver,
    configuration: { ...schemaProperties(V1.event), ...schemaProperties(v2.event) },
  } as Snapshot;
  assert.deepEqual(
    declaredEvents(both.configuration).map(({ schemaVersion }) => schemaVersion),
    [1, 2],
  );
  assert.deepEqual(
    otherEvents(both.configuration, v2.event).map(({ schemaVersion }) => schemaVersion),
    [1],
  );
  requireDeclaredEvent(both, 'silver/usage', V1.event);
  requireDeclaredEvent(both, 'silver/usage', v2.event);
  for (const config of [configOf(3, BASE), configOf(2, BASE)]) {
    assert.throws(() => requireDeclaredEvent(both, 'silver/usage', config.event), {
      kind: 'invalid',
      code: 'TM_SCHEMA_MISMATCH',
      message: /tidemark schema check/,
    });
  }
});

test('a gold table takes files with fewer measures, and never the same name with another meaning', () => {
  const wide = configOf(1, BASE, 'n: {fn: count}, size: {fn: sum, field: size}').gold[0]!;
  const narrow = V1.gold[0]!;
  const first = aggregateProperties(wide);
  const second = aggregateProperties(narrow, declaredAggregate(first));
  for (const configuration of [first, second]) {
    const gold = { configuration } as unknown as Snapshot;
    requireDeclaredAggregate(gold, 'gold/hourly', narrow);
    requireDeclaredAggregate(gold, 'gold/hourly', wide);
    const other = configOf(1, BASE, 'size: {fn: max, field: size}').gold[0]!;
    assert.throws(() => requireDeclaredAggregate(gold, 'gold/hourly', other), { kind: 'invalid' });
  }
});

test('fingerprints of rows read back take every field that was ever declared', () => {
  const v2 = configOf(2, 'customer: string, size: integer, plan: string');
  const properties = { ...schemaProperties(V1.event), ...schemaProperties(v2.event) };
  const names = eventOfAllSchemas(properties, v2.event).schema.fields.map(({ name }) => name);
  assert.deepEqual(names, ['id', 'at', 'customer', 'size', 'plan', 'price']);
});

test('a declaration that another program spoilt is told by its property (DS1)', () => {
  const spoilt = ['', 'null', '[]', '{"id":1}', '{"measures":3}'];
  for (const text of spoilt) {
    for (const [name, read] of [
      ['tidemark.schema.3', declaredEvents],
      ['tidemark.aggregate', declaredAggregate],
    ] as const) {
      assert.throws(
        () => read({ [name]: text }),
        (thrown) =>
          thrown instanceof PipelineError &&
          thrown.kind === 'corrupt' &&
          thrown.message.includes(name),
        text,
      );
    }
  }
});
