/** C1, C2: growable columns of any type hold what a plain list of cells holds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type CellValue, cellAt, vectorFromCells } from '../../../src/pipeline/column-builder.ts';
import { builderFor } from '../../../src/pipeline/silver/growable-columns.ts';
import type { DataType } from '../../../src/pipeline/types.ts';
import { dataType } from './event-arbitraries.ts';

function cellOf(type: DataType): fc.Arbitrary<CellValue> {
  switch (type.kind) {
    case 'decimal':
      return fc.bigInt({ min: -(2n ** 100n), max: 2n ** 100n });
    case 'array':
      return fc.array(nullable(type.element), { maxLength: 3 });
    case 'map':
      return fc
        .uniqueArray(fc.tuple(fc.string({ maxLength: 3 }), nullable(type.value)), {
          maxLength: 3,
          selector: ([key]) => key,
        })
        .map((entries): CellValue => new Map<CellValue, CellValue>(entries));
    case 'struct':
      return fc
        .tuple(...type.fields.map((f) => nullable(f.type)))
        .map((cells) => Object.fromEntries(type.fields.map((f, i) => [f.name, cells[i]!])));
    case 'primitive':
      switch (type.name) {
        case 'string':
          return fc.string({ maxLength: 90 });
        case 'binary':
          return fc.uint8Array({ maxLength: 5 });
        case 'boolean':
          return fc.boolean();
        case 'long':
        case 'timestamp':
          return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
        case 'float':
          return fc.float({ noNaN: true });
        case 'double':
          return fc.double({ noNaN: true });
        default:
          return fc.integer({ min: -128, max: 127 });
      }
  }
}

const nullable = (type: DataType): fc.Arbitrary<CellValue> =>
  fc.oneof({ weight: 1, arbitrary: fc.constant(null) }, { weight: 3, arbitrary: cellOf(type) });

const steps = dataType(2).chain((type) =>
  fc.record({
    type: fc.constant(type),
    steps: fc.array(
      fc.oneof(
        fc.record({
          // Without nulls as often as with them.
          cells: fc.oneof(
            fc.array(cellOf(type), { maxLength: 30 }),
            fc.array(nullable(type), { maxLength: 30 }),
          ),
          picks: fc.array(fc.nat(99), { maxLength: 40 }),
        }),
        fc.constant('null' as const),
        fc.constant('reset' as const),
        fc.record({ keep: fc.nat(99) }),
        fc.record({ reserve: fc.nat(99) }),
      ),
      { maxLength: 8 },
    ),
  }),
);

test('C1 C2: appended, taken back and copied rows are those of a plain list', () => {
  fc.assert(
    fc.property(steps, ({ type, steps: todo }) => {
      const builder = builderFor(type);
      let model: CellValue[] = [];
      for (const step of todo) {
        if (step === 'null') {
          builder.appendNull();
          model.push(null);
        } else if (step === 'reset') {
          builder.reset();
          model = [];
        } else if ('keep' in step) {
          const length = Math.min(step.keep, model.length);
          builder.truncate(length);
          model.length = length;
        } else if ('reserve' in step) {
          builder.reserve(step.reserve);
        } else if (step.cells.length > 0) {
          const rows = Int32Array.from(step.picks, (pick) => pick % step.cells.length);
          builder.appendRows(vectorFromCells(type, step.cells), rows, rows.length);
          for (const row of rows) model.push(step.cells[row]!);
        }
        const vector = builder.view();
        assert.equal(vector.length, model.length);
        assert.equal(vector.nullCount, model.filter((cell) => cell === null).length);
        assert.equal(vector.validity === undefined, vector.nullCount === 0);
        const expected = vectorFromCells(type, model);
        for (let row = 0; row < model.length; row++) {
          assert.deepEqual(cellAt(vector, row), cellAt(expected, row));
        }
      }
    }),
    { numRuns: 500 },
  );
});
