import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { VersionedMap } from '../../../src/storage/delta/versioned-map.ts';

describe('versioned map', () => {
  it('keeps every view as it was, whichever view is updated next (V1)', () => {
    const change = fc.tuple(fc.nat(9), fc.option(fc.nat(99), { nil: undefined }));
    const step = fc.record({ from: fc.nat(20), changes: fc.array(change, { maxLength: 5 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 15 }), (steps) => {
        const views = [VersionedMap.owning(new Map([[0, 0]]))];
        const models = [new Map([[0, 0]])];
        for (const { from, changes } of steps) {
          const index = Math.max(0, views.length - 1 - (from % views.length));
          views.push(views[index]!.with(new Map(changes)));
          const model = new Map(models[index]);
          for (const [key, value] of new Map(changes)) {
            if (value === undefined) model.delete(key);
            else model.set(key, value);
          }
          models.push(model);
        }
        views.forEach((view, i) => {
          const model = models[i]!;
          assert.equal(view.size, model.size);
          for (let key = 0; key < 10; key++) assert.equal(view.get(key), model.get(key));
          const sorted = (map: Map<number, number>) => [...map].sort(([a], [b]) => a - b);
          assert.deepEqual(sorted(view.toMap()), sorted(model));
          assert.equal(view.values().length, model.size);
        });
      }),
    );
  });
});
