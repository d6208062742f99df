import assert from 'node:assert/strict';
import { test } from 'node:test';
import { goldFileSchema, goldTableSchema } from '../../../src/pipeline/gold/gold-schema.ts';
import { silverProjection } from '../../../src/pipeline/gold/projection.ts';
import type { AggregateConfig, MeasureConfig } from '../../../src/pipeline/pipeline-config.ts';
import { type DataType, field, struct } from '../../../src/pipeline/types.ts';
import { EVENT } from './event-batches.ts';

function aggregate(groupBy: string[], measures: MeasureConfig[]): AggregateConfig {
  return { name: 'usage', windowMs: 3_600_000, groupBy, measures };
}

function typeNames(fields: readonly { name: string; type: DataType }[]): string[] {
  return fields.map(({ name, type }) =>
    type.kind === 'decimal'
      ? `${name} decimal(${type.precision},${type.scale})`
      : `${name} ${type.kind === 'primitive' ? type.name : type.kind}`,
  );
}

test('columns are window, groups, measures, provenance; the table adds the date', () => {
  const config = aggregate(
    ['string', 'date'],
    [
      { name: 'rows', fn: 'count', field: undefined },
      { name: 'shorts', fn: 'sum', field: 'short' },
      { name: 'floats', fn: 'sum', field: 'float' },
      { name: 'decimals', fn: 'sum', field: 'decimal' },
      { name: 'average', fn: 'avg', field: 'decimal' },
      { name: 'smallest', fn: 'min', field: 'byte' },
      { name: 'largest', fn: 'max', field: 'string' },
      { name: 'distinct', fn: 'countDistinct', field: 'binary' },
    ],
  );
  const { fields } = goldFileSchema(config, EVENT);
  assert.deepEqual(typeNames(fields), [
    'window_start timestamp',
    'window_end timestamp',
    'string string',
    'date date',
    'rows long',
    'shorts long',
    'floats double',
    'decimals decimal(38,6)',
    'average double',
    'smallest byte',
    'largest string',
    'distinct long',
    '_source string',
    '_is_final boolean',
    '_revision integer',
    '_silver_version long',
  ]);
  const table = goldTableSchema(config, EVENT);
  assert.deepEqual(table.fields, [...fields, field('_event_date', 'date')]);
});

test('an aggregate that does not fit the event is refused with the reason', () => {
  const nested = {
    ...EVENT,
    schema: struct([...EVENT.schema.fields, field('nested', struct([]))]),
  };
  const cases: [AggregateConfig, RegExp][] = [
    [aggregate(['nothing'], []), /no field "nothing"/],
    [aggregate(['nested'], []), /nested field/],
    [aggregate([], [{ name: 'x', fn: 'sum', field: 'string' }]), /no number/],
    [aggregate([], [{ name: 'x', fn: 'avg', field: 'boolean' }]), /no number/],
    [aggregate([], [{ name: 'x', fn: 'min', field: undefined }]), /needs a field/],
    [aggregate(['string'], [{ name: 'String', fn: 'count', field: undefined }]), /two columns/],
    [aggregate([], [{ name: '_event_date', fn: 'count', field: undefined }]), /two columns/],
    [aggregate(['string', 'string'], []), /two columns/],
  ];
  for (const [config, message] of cases) {
    assert.throws(() => goldFileSchema(config, nested), { code: 'TM_CONFIG_INVALID', message });
  }
});

test('the projection is the event time and what the aggregates read, in declared order', () => {
  const first = aggregate(['string'], [{ name: 'n', fn: 'sum', field: 'long' }]);
  const second = aggregate(['byte', 'event_time'], [{ name: 'n', fn: 'count', field: undefined }]);
  assert.deepEqual(silverProjection([first, second], EVENT), [
    'event_time',
    'string',
    'byte',
    'long',
  ]);
});
