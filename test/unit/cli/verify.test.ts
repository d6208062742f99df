/** `verify` finds every way in which a lake can be wrong, and no other (checks L1 to L7, E1). */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import type { Coverage } from '../../../src/pipeline/bronze.ts';
import {
  bronzeAppId,
  deadLetterRetryAppId,
  goldAppId,
  goldLateAppId,
} from '../../../src/pipeline/progress.ts';
import { DuckDbLakeQuery } from '../../../src/storage/query/duckdb-lake-query.ts';
import { cli } from '../../support/cli-host.ts';
import {
  covers,
  FIXTURE_PIPELINE,
  type FixtureRecord,
  LakeFixture,
  openLakeStore,
} from '../../support/lake-fixture.ts';

interface Report {
  readonly ok: boolean;
  readonly deep: boolean;
  readonly partitions: readonly Record<string, unknown>[];
  readonly stages: Record<string, number>;
  readonly silverDuplicates: number;
  readonly violations: readonly { kind: string; table: string; message: string }[];
  readonly unproven: readonly { table: string; message: string }[];
}

async function verify(lake: LakeFixture, ...argv: string[]) {
  await writeFile(join(lake.folder, 'tidemark.yaml'), FIXTURE_PIPELINE);
  return cli(['verify', ...argv], {
    cwd: lake.folder,
    adapters: {
      openStore: openLakeStore,
      openCodec: async () => lake.codec,
      openQuery: ({ store }) =>
        DuckDbLakeQuery.open({
          store,
          ambient: systemAmbient,
          cacheFolder: join(lake.folder, 'c'),
        }),
    },
  });
}

async function report(lake: LakeFixture, ...argv: string[]): Promise<Report> {
  const run = await verify(lake, '--json', ...argv);
  assert.equal(run.stderr, '');
  const parsed = JSON.parse(run.stdout) as Report;
  assert.equal(run.exitCode, parsed.ok ? 0 : 1);
  return parsed;
}

const A: FixtureRecord = { offset: 10, id: 'a' };
const B: FixtureRecord = { offset: 11, id: 'b' };
const A_AGAIN: FixtureRecord = { offset: 12, id: 'a' };
const POISON: FixtureRecord = { offset: 13, id: undefined };
const CONFLICT: FixtureRecord = { offset: 14, id: 'b' };
const RECORDS = [A, B, A_AGAIN, POISON, CONFLICT];
const DEAD = [
  { ...POISON, flag: 'invalid_json' },
  { ...CONFLICT, flag: 'conflicting_duplicate' },
];
const COUNTS = { silverRows: 2, duplicates: 1, conflicts: 1, deadLetters: 1 };

/** Repeats of `a` that a JSON reader other than the pipeline's may read otherwise. */
const ODD_REPEATS = ['{"id":"x","id":"a"}', '\uFEFF{"id":"a"}', '{"x":"\\ud800","id":"a"}'];

interface Changes {
  readonly bronze?: [
    readonly FixtureRecord[],
    readonly Coverage[],
    Readonly<Record<number, number>>,
  ];
  readonly silver?: readonly FixtureRecord[];
  readonly dead?: Parameters<LakeFixture['deadLetters']>[0];
  readonly counts?: Readonly<Record<string, number>>;
  readonly goldCount?: number;
}

/** A lake that is right but for the changes. */
async function lakeWith(t: TestContext, changes: Changes = {}): Promise<LakeFixture> {
  const lake = await LakeFixture.open(t);
  const [records, coverage, next] = changes.bronze ?? [RECORDS, [covers(10, 15)], { 0: 15 }];
  await lake.bronze(records, coverage, next);
  await lake.deadLetters(changes.dead ?? DEAD);
  await lake.silver(changes.silver ?? [A, B], 1, changes.counts ?? COUNTS);
  await lake.gold(changes.goldCount ?? 2, 1);
  return lake;
}

test('a lake in which every record counts once is ok, and its counts add up', async (t) => {
  const lake = await lakeWith(t);
  const expected = {
    ok: true,
    deep: false,
    partitions: [
      {
        topic: 'usage',
        partition: 0,
        minOffset: 10,
        maxOffset: 14,
        expected: 5,
        actual: 5,
        gapsExplained: [],
        gapsUnexplained: [],
      },
    ],
    stages: { bronzeRows: 5, silverRows: 2, duplicates: 1, conflicts: 1, deadLetters: 1 },
    silverDuplicates: 0,
    violations: [],
    unproven: [],
  };
  assert.deepEqual(await report(lake), expected);
  assert.deepEqual(await report(lake, '--deep'), { ...expected, deep: true });
  assert.deepEqual(await report(lake, '--date', '2026-11-22'), { ...expected, deep: true });
  const shown = await verify(lake);
  assert.match(
    shown.stdout,
    /5 records = 2 events \+ 1 duplicates \+ 1 conflicts \+ 1 dead letters/,
  );
  assert.match(shown.stdout, /Every record counts exactly once, as the commits prove\.\n$/);
});

test('a lake whose tables are new is ok; one without tables is refused', async (t) => {
  const lake = await LakeFixture.open(t);
  const parsed = await report(lake);
  assert.deepEqual([parsed.ok, parsed.partitions], [true, []]);
  await rm(join(lake.folder, 'tidemark-data', 'lake', 'bronze'), { recursive: true });
  const run = await verify(lake);
  assert.equal(run.exitCode, 2);
  assert.match(run.stderr, /has no table bronze\/usage/);
});

test('markers, aborted and compacted offsets are explained, also first and last (P4, L2)', async (t) => {
  const gaps = [
    { from: 8n, to: 10n, kind: 'compacted' as const },
    { from: 15n, to: 16n, kind: 'marker' as const },
  ];
  const lake = await lakeWith(t, { bronze: [RECORDS, [covers(8, 16, { gaps })], { 0: 16 }] });
  const parsed = await report(lake);
  assert.equal(parsed.ok, true, JSON.stringify(parsed.violations));
  assert.deepEqual(parsed.partitions[0], {
    topic: 'usage',
    partition: 0,
    minOffset: 8,
    maxOffset: 15,
    expected: 8,
    actual: 5,
    gapsExplained: [
      [8, 10],
      [15, 16],
    ],
    gapsUnexplained: [],
  });
});

test('a repeat counts as one however its JSON is written (L3)', async (t) => {
  const odd = ODD_REPEATS.map((value, i) => ({ offset: 15 + i, id: 'a', value }));
  const lake = await lakeWith(t, {
    bronze: [[...RECORDS, ...odd], [covers(10, 18)], { 0: 18 }],
    counts: { ...COUNTS, duplicates: 4 },
  });
  const parsed = await report(lake);
  assert.deepEqual(parsed.violations, []);
  assert.equal(parsed.stages['duplicates'], 4);
});

test('a stage that lags behind is no violation (E1)', async (t) => {
  const lake = await lakeWith(t);
  // In bronze and dead letters, not yet in silver; in silver, not yet in gold.
  await lake.bronze(
    [
      { offset: 15, id: 'c' },
      { offset: 16, id: 'd' },
    ],
    [covers(15, 17)],
    { 0: 17 },
  );
  await lake.bronze([{ offset: 17, id: undefined }], [covers(17, 18)], { 0: 18 });
  await lake.deadLetters([{ offset: 17, id: undefined, flag: 'invalid_json' }], 3);
  await lake.silver(
    [
      { offset: 15, id: 'c' },
      { offset: 16, id: 'd' },
    ],
    2,
    { silverRows: 2 },
  );
  for (const argv of [[], ['--deep']]) {
    const parsed = await report(lake, ...argv);
    assert.deepEqual(parsed.violations, []);
    assert.equal(parsed.partitions[0]!['actual'], 8);
    assert.deepEqual(parsed.stages, {
      bronzeRows: 7,
      silverRows: 4,
      duplicates: 1,
      conflicts: 1,
      deadLetters: 1,
    });
  }
});

test('a final date is compared with the silver version it was reconciled from (P7)', async (t) => {
  const lake = await lakeWith(t);
  await lake.bronze([{ offset: 15, id: 'late' }], [covers(15, 16)], { 0: 16 });
  await lake.silver([{ offset: 15, id: 'late' }], 2, { silverRows: 1 });
  await lake.gold(2, 1, { final: true });
  assert.deepEqual((await report(lake)).violations, []);
  assert.deepEqual((await report(lake, '--deep')).violations, []);
});

test('a final date whose silver version is no longer kept is unproven, not violated', async (t) => {
  const lake = await lakeWith(t);
  await lake.bronze([{ offset: 15, id: 'late' }], [covers(15, 16)], { 0: 16 });
  await lake.silver([{ offset: 15, id: 'late' }], 2, { silverRows: 1 });
  await lake.gold(2, 1, { final: true });
  const { silver } = lake.tables;
  await silver.checkpoint();
  for (const version of [0, 1]) {
    await lake.store.delete(`silver/usage/_delta_log/${String(version).padStart(20, '0')}.json`);
  }
  // As the stream goes on: it covers what the checkpoint has, and the late event waits.
  const gold = lake.tables.gold.get('hourly')!;
  const progress = [
    goldAppId(lake.config.name, silver.tableId),
    goldLateAppId(lake.config.name, silver.tableId, '2026-11-22'),
  ].map((appId) => ({ appId, expected: 'any' as const, next: 2n }));
  await gold.commit({ operation: 'STREAMING UPDATE', adds: [], progress });
  for (const argv of [[], ['--deep']]) {
    const { violations, unproven } = await report(lake, ...argv);
    assert.deepEqual(violations, []);
    assert.equal(unproven.length, 1);
    assert.match(unproven[0]!.message, /2026-11-22\) were made from silver version 1/);
  }
});

test('a date is proved by its own records, between which offsets of other dates may lie', async (t) => {
  const lake = await lakeWith(t);
  const other = await report(lake, '--date', '2026-11-21');
  assert.deepEqual([other.ok, other.partitions, other.stages['bronzeRows']], [true, [], 0]);
  const refused = await verify(lake, '--date', '2026-02-30');
  assert.equal(refused.exitCode, 2);
});

/** Found by reading the data files. */
const WRONG: Readonly<Record<string, readonly [kind: string, message: RegExp, changes: Changes]>> =
  {
    'a row that is gone': [
      'missing-offsets',
      /partition 0 of usage: offset 12 have no row .* commit 1 covers/,
      {
        bronze: [RECORDS.filter((r) => r !== A_AGAIN), [covers(10, 15)], { 0: 15 }],
        counts: { ...COUNTS, duplicates: 0 },
      },
    ],
    'last rows that are gone': [
      'missing-offsets',
      /offsets 15 to 19/,
      { bronze: [RECORDS, [covers(10, 20)], { 0: 20 }] },
    ],
    'an offset range that no commit covers': [
      'missing-offsets',
      /offsets 15 to 17 are covered by no commit/,
      {
        bronze: [
          [...RECORDS, { offset: 18, id: 'a' }],
          [covers(10, 15), covers(18, 19)],
          { 0: 19 },
        ],
        counts: { ...COUNTS, duplicates: 2 },
      },
    ],
    'a record stored twice': [
      'duplicate-offsets',
      /1 rows repeat an offset, within offset 12/,
      {
        bronze: [[...RECORDS, A_AGAIN], [covers(10, 15)], { 0: 15 }],
        counts: { ...COUNTS, duplicates: 2 },
      },
    ],
    'offsets covered twice': [
      'coverage-overlap',
      /offsets 13 to 14 are covered twice/,
      { bronze: [RECORDS, [covers(10, 15), covers(13, 15)], { 0: 15 }] },
    ],
    'coverage that does not add up': [
      'coverage-contradiction',
      /with 4 rows and 0 explained/,
      { bronze: [RECORDS, [covers(10, 15, { rows: 4 })], { 0: 15 }] },
    ],
    'a row where a gap is stated': [
      'unexpected-rows',
      /offset 12 have rows/,
      {
        bronze: [
          RECORDS,
          [covers(10, 15, { gaps: [{ from: 12n, to: 13n, kind: 'aborted' }] })],
          { 0: 15 },
        ],
      },
    ],
    'rows beyond the progress': [
      'progress-mismatch',
      /cover up to 15, but the table's progress is 14/,
      {
        bronze: [RECORDS, [covers(10, 15)], { 0: 14 }],
        dead: DEAD.slice(0, 1),
        counts: { ...COUNTS, conflicts: 0 },
      },
    ],
    'an event that is in no table': [
      'lost-events',
      /1 records up to bronze version 1 .*partition\/offset 0\/11/,
      { silver: [A], dead: DEAD, goldCount: 1 },
    ],
    'a poison record that is in no table': ['lost-events', /0\/13/, { dead: DEAD.slice(1) }],
    'an event in silver and dead letters': [
      'counted-twice',
      /1 records/,
      { dead: [...DEAD, { ...A, flag: 'invalid_json' }] },
    ],
    'an event of silver that bronze does not have': [
      'rows-without-record',
      /1 rows/,
      { silver: [A, B, { offset: 9, id: 'x' }], goldCount: 3 },
    ],
    'an event id twice in silver': [
      'silver-duplicates',
      /1 rows of version 1 repeat an event id \(a\)/,
      { silver: [A, B, A_AGAIN], counts: { ...COUNTS, duplicates: 0 }, goldCount: 3 },
    ],
    'counts that the commits state otherwise': [
      'lineage-mismatch',
      /state 5 duplicates, the tables have 1/,
      { counts: { ...COUNTS, duplicates: 5 } },
    ],
    'a gold count that is too high': [
      'gold-mismatch',
      /version 1 counts 3 events on 2026-11-22, but silver version 1 has 2/,
      { goldCount: 3 },
    ],
  };

for (const [what, [kind, message, changes]] of Object.entries(WRONG)) {
  test(`${what} is a violation of kind ${kind}`, async (t) => {
    const { violations } = await report(await lakeWith(t, changes), '--deep');
    const found = violations.filter((violation) => violation.kind === kind);
    assert.equal(found.length, 1, JSON.stringify(violations, null, 1));
    assert.match(found[0]!.message, message);
  });
}

/** Found without reading a data file. */
const STATED_WRONG: Readonly<
  Record<string, readonly [kind: string, table: string, message: RegExp, changes: Changes]>
> = {
  'an offset range that no commit covers': [
    'missing-offsets',
    'bronze.usage',
    /offsets 15 to 17 are covered by no commit/,
    {
      bronze: [[...RECORDS, { offset: 18, id: 'a' }], [covers(10, 15), covers(18, 19)], { 0: 19 }],
      counts: { ...COUNTS, duplicates: 2 },
    },
  ],
  'a bronze row that is gone': [
    'rows-mismatch',
    'bronze.usage',
    /hold 4 rows, the commits account for 5/,
    {
      bronze: [RECORDS.slice(1), [covers(10, 15)], { 0: 15 }],
      counts: { ...COUNTS, duplicates: 0 },
    },
  ],
  'a bronze row that was derived by nobody': [
    'totals-mismatch',
    'silver.usage',
    /4 records were derived, bronze has 5/,
    { counts: { ...COUNTS, duplicates: 0 } },
  ],
  'a row of silver that a foreign writer doubled': [
    'rows-mismatch',
    'silver.usage',
    /hold 3 rows, the commits account for 2/,
    { silver: [A, B, A], counts: COUNTS, goldCount: 3 },
  ],
  'a dead letter that is gone': [
    'rows-mismatch',
    'bronze.usage_dlq',
    /hold 1 rows, the commits account for 2/,
    { dead: DEAD.slice(1) },
  ],
  'a gold count that is too high': [
    'gold-mismatch',
    'gold.hourly',
    /version 1 counts 3 events on 2026-11-22, but silver version 1 has 2/,
    { goldCount: 3 },
  ],
};

for (const [what, [kind, table, message, changes]] of Object.entries(STATED_WRONG)) {
  test(`${what} is a violation of kind ${kind} by the commits alone (L6)`, async (t) => {
    const { violations } = await report(await lakeWith(t, changes));
    assert.deepEqual(
      violations.map((violation) => [violation.kind, violation.table]),
      [[kind, table]],
      JSON.stringify(violations, null, 1),
    );
    assert.match(violations[0]!.message, message);
  });
}

test('a row that a foreign writer doubled counts as a duplicate in silver', async (t) => {
  const lake = await lakeWith(t, { silver: [A, B, A], goldCount: 3 });
  assert.equal((await report(lake)).silverDuplicates, 1);
  assert.equal((await report(lake, '--deep')).silverDuplicates, 1);
});

test('a log entry that is gone is a violation that names it (L7)', async (t) => {
  const lake = await lakeWith(t);
  await lake.gold(2, 1);
  await lake.store.delete(`gold/hourly/_delta_log/${'1'.padStart(20, '0')}.json`);
  const { violations } = await report(lake);
  const found = violations.filter(({ kind }) => kind === 'missing-commit' || kind === 'unreadable');
  assert.deepEqual(
    found.map(({ table }) => table),
    ['gold.hourly'],
    JSON.stringify(violations, null, 1),
  );
  assert.match(found[0]!.message, /version 1\b|0{19}1\.json/);
});

test('the newest commits of an upstream table are missed, read deep or not (L7)', async (t) => {
  const ahead: Readonly<Record<string, (lake: LakeFixture) => Promise<unknown>>> = {
    'bronze.usage': (lake) => lake.silver([], 2, {}),
    'silver.usage': (lake) => lake.gold(2, 2),
  };
  for (const [table, commit] of Object.entries(ahead)) {
    const lake = await lakeWith(t);
    await commit(lake);
    for (const argv of [[], ['--deep']]) {
      const { violations } = await report(lake, ...argv);
      assert.deepEqual(
        violations.map(({ kind, table: of }) => [kind, of]),
        [['missing-commit', table]],
      );
      assert.match(violations[0]!.message, /ends at version 1, but .* covers version 2/);
    }
  }
});

test('a retry whose commit in silver is lost is a violation, and ends (L6)', {
  timeout: 30_000,
}, async (t) => {
  const lake = await lakeWith(t);
  const appId = deadLetterRetryAppId(lake.config.name, lake.tables.bronze.tableId);
  const [letters] = lake.tables.deadLetter.snapshot.files();
  const outcome = await lake.tables.deadLetter.commit({
    operation: 'DELETE',
    adds: [],
    removes: [letters!.path],
    progress: [{ appId, expected: 'any', next: 1n }],
  });
  assert.equal(outcome.kind, 'committed');
  const kinds = (await report(lake)).violations.map(({ kind }) => kind);
  assert.deepEqual(kinds, ['rows-mismatch']);
});

test('a final date that the stream counts on in counts the newest version again (P7)', async (t) => {
  const lake = await lakeWith(t);
  await lake.gold(2, 1, { final: true });
  await lake.bronze([{ offset: 15, id: 'late' }], [covers(15, 16)], { 0: 16 });
  await lake.silver([{ offset: 15, id: 'late' }], 2, { silverRows: 1 });
  const gold = lake.tables.gold.get('hourly')!;
  const silverId = lake.tables.silver.tableId;
  const cover = (appId: string) =>
    gold.commit({
      operation: 'STREAMING UPDATE',
      adds: [],
      progress: [{ appId, expected: 'any', next: 2n }],
    });
  await cover(goldAppId(lake.config.name, silverId));
  for (const argv of [[], ['--deep']]) {
    const { violations } = await report(lake, ...argv);
    assert.deepEqual(
      violations.map(({ kind }) => kind),
      ['gold-mismatch'],
      'the event was dropped',
    );
  }
  await cover(goldLateAppId(lake.config.name, silverId, '2026-11-22'));
  for (const argv of [[], ['--deep']]) {
    assert.deepEqual((await report(lake, ...argv)).violations, [], 'it waits to be reconciled');
  }
});

test('a data file of another size is a violation that names it (L7)', async (t) => {
  const lake = await lakeWith(t);
  const [file] = lake.tables.silver.snapshot.files();
  await lake.store.put(`silver/usage/${file!.path}`, new Uint8Array(10));
  const { violations } = await report(lake);
  assert.deepEqual(
    violations.map(({ kind, table }) => [kind, table]),
    [['changed-file', 'silver.usage']],
  );
  assert.match(violations[0]!.message, /has 10 bytes instead of/);
});

test('progress under two topic ids is a violation (P8)', async (t) => {
  const lake = await lakeWith(t);
  const appId = bronzeAppId('usage', 'usage', 'another-id', 0);
  await lake.commit(lake.tables.bronze, [], {
    progress: [{ appId, expected: 'any', next: 3n }],
    lineage: {},
  });
  const kinds = (await report(lake)).violations.map(({ kind }) => kind);
  assert.deepEqual(kinds, ['topic-recreated']);
});

test('a data file that is gone is a violation that names it, and the exit code is 1', async (t) => {
  const lake = await lakeWith(t);
  const [file] = lake.tables.silver.snapshot.files();
  await lake.store.delete(`silver/usage/${file!.path}`);
  const { ok, violations } = await report(lake);
  assert.equal(ok, false);
  assert.deepEqual(
    violations.map(({ kind, table }) => [kind, table]),
    [['missing-file', 'silver.usage']],
  );
  assert.ok(violations[0]!.message.includes(file!.path));
});
