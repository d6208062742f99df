/** P7: the cause that the report gives for a changed window. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { causeOf, type ChangeEvidence } from '../../../src/pipeline/gold/change-cause.ts';

const NOTHING: ChangeEvidence = {
  gained: { late: 0, onTime: 0 },
  retried: { late: 0, onTime: 0 },
  replayed: { late: 0, onTime: 0 },
  wasRebuilt: false,
  wasRestored: false,
  events: undefined,
};

const cases: readonly (readonly [string, Partial<ChangeEvidence>, string])[] = [
  ['late rows', { gained: { late: 1, onTime: 0 } }, 'late'],
  ['more late rows than others', { gained: { late: 3, onTime: 2 } }, 'late'],
  ['more rows in time than late ones', { gained: { late: 1, onTime: 2 } }, 'missed_by_streaming'],
  [
    'retried dead letters, whatever they were flagged',
    { gained: { late: 2, onTime: 1 }, retried: { late: 2, onTime: 1 } },
    'dead_letter_retried',
  ],
  [
    'more late rows than retried ones',
    { gained: { late: 5, onTime: 0 }, retried: { late: 1, onTime: 0 } },
    'late',
  ],
  [
    'rows that a replay put back, late or not',
    { gained: { late: 2, onTime: 0 }, replayed: { late: 2, onTime: 0 } },
    'missed_by_streaming',
  ],
  ['a rebuild, above all', { wasRebuilt: true, gained: { late: 9, onTime: 0 } }, 'schema_replay'],
  ['a restore', { wasRestored: true, gained: { late: -9, onTime: 0 } }, 'revised'],
  ['rows that left silver', { gained: { late: 0, onTime: -1 } }, 'duplicate_removed'],
  ['gold that had counted twice', { events: { before: 4n, after: 2n } }, 'duplicate_removed'],
  ['gold that lacked rows', { events: { before: 2n, after: 4n } }, 'missed_by_streaming'],
  ['the same rows, other values', { events: { before: 2n, after: 2n } }, 'revised'],
  ['no evidence at all', {}, 'revised'],
];

for (const [what, evidence, cause] of cases) {
  test(`${what}: ${cause}`, () => {
    assert.equal(causeOf({ ...NOTHING, ...evidence }), cause);
  });
}
