/** P7, RC1 to RC3, GW1 to GW5: gold by stream and by batch on one lake, in every order. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { PipelineError } from '../../../src/errors.ts';
import { parseGoldTags } from '../../../src/pipeline/gold/gold-tags.ts';
import { goldLateAppId } from '../../../src/pipeline/progress.ts';
import { stateOfDate, viewLake } from '../../../src/operations/reconcile/lake-view.ts';
import { reconcile } from '../../../src/operations/reconcile/reconcile.ts';
import { openReportTable, settleReport } from '../../../src/operations/reconcile/report-table.ts';
import { ReconciliationDesk } from '../../../src/operations/reconcile/reconciliation-desk.ts';
import type { ObjectStore } from '../../../src/storage/object-store/object-store.ts';
import { eventually } from '../../support/eventually.ts';
import { SilverLake } from '../../support/silver-lake.ts';

const DATE = '2026-11-22';

/** Three events in two hours of the date, in gold by the stream. */
async function streamed(t: TestContext): Promise<SilverLake> {
  const lake = await SilverLake.open();
  await lake.write([
    { at: '2026-11-22T08:10:00Z', bytes: 10 },
    { at: '2026-11-22T08:20:00Z', bytes: 5 },
    { at: '2026-11-22T09:00:00Z', customer: 'd', bytes: 7 },
  ]);
  await lake.stream(t);
  return lake;
}

/** The same, made final. */
async function reconciled(t: TestContext): Promise<SilverLake> {
  const lake = await streamed(t);
  const [outcome] = await reconcile(await lake.elsewhere(), { dates: [DATE] });
  assert.equal(outcome!.kind, 'reconciled');
  return lake;
}

const summary = async (lake: SilverLake): Promise<unknown> =>
  (await lake.gold()).map((row) => [
    row['customer'],
    Number(row['n']),
    Number(row['bytes']),
    row['_source'],
    row['_is_final'],
    row['_revision'],
    Number(row['_silver_version']),
  ]);

/** A store with some of its methods replaced. */
function withMethods(store: ObjectStore, methods: Partial<ObjectStore>): ObjectStore {
  return new Proxy(store, {
    get: (target, name: keyof ObjectStore) => {
      const value = methods[name] ?? target[name];
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** A store at which something happens before a date of silver is read for the first time. */
function atFirstRead(store: ObjectStore, date: string, happens: () => Promise<void>): ObjectStore {
  let isDone = false;
  return withMethods(store, {
    async get(key, options) {
      if (key.startsWith(`silver/usage/${date}`) && !isDone) {
        isDone = true;
        await happens();
      }
      return store.get(key, options);
    },
  });
}

/** A store that takes in no commit to the report table. */
function unreported(store: ObjectStore): ObjectStore {
  return withMethods(store, {
    async createIfAbsent(key, body) {
      if (key.startsWith('gold/usage_reconciliation/_delta_log/') && !key.endsWith('00.json')) {
        throw new PipelineError('invalid', 'TM_STORE_DENIED', 'crash');
      }
      return store.createIfAbsent(key, body);
    },
  });
}

test('BT1 a date becomes final with the same numbers; its files say what they hold', async (t) => {
  const lake = await streamed(t);
  assert.deepEqual(await summary(lake), [
    ['c', 2, 15, 'streaming', false, 0, 1],
    ['d', 1, 7, 'streaming', false, 0, 1],
  ]);
  const [outcome] = await reconcile(await lake.elsewhere());
  assert.deepEqual(outcome, {
    date: DATE,
    kind: 'reconciled',
    silverVersion: 1,
    tables: ['hourly', 'daily'].map((aggregate) => ({
      aggregate,
      revision: 1,
      events: 3,
      changedWindows: 0,
      windowsByCause: {},
    })),
  });
  assert.deepEqual(await summary(lake), [
    ['c', 2, 15, 'batch', true, 1, 1],
    ['d', 1, 7, 'batch', true, 1, 1],
  ]);
  const tags = (await lake.goldFiles()).map((file) => parseGoldTags(file.tags)!);
  assert.deepEqual(
    tags.map(({ events, finalVersion, revision }) => [events, finalVersion, revision]),
    [
      [2, 1, 1],
      [1, 1, 1],
    ],
  );
  assert.deepEqual(await lake.report(), []);
});

test('a second run finds the date final and commits nothing', async (t) => {
  const lake = await reconciled(t);
  const versions = (): number[] => [...lake.tables.gold.values()].map((x) => x.snapshot.version);
  await lake.goldFiles();
  await lake.goldFiles('daily');
  const before = versions();
  const again = await reconcile(await lake.elsewhere(), { dates: [DATE] });
  assert.deepEqual(again, [{ date: DATE, kind: 'already-final', revision: 1 }]);
  assert.deepEqual(await reconcile(await lake.elsewhere()), []);
  await lake.goldFiles();
  await lake.goldFiles('daily');
  assert.deepEqual(versions(), before);
});

test('GW5 late rows leave a final date as it is and mark it; the next batch reports them', async (t) => {
  const lake = await reconciled(t);
  const before = await summary(lake);
  await lake.write([{ at: '2026-11-22T08:30:00Z', bytes: 100, late: true }]);
  await lake.stream(t);
  assert.deepEqual(await summary(lake), before);
  const { silver, gold } = lake.tables;
  const mark = goldLateAppId(lake.config.name, silver.tableId, DATE);
  assert.equal(gold.get('hourly')!.snapshot.progress(mark), 2n);

  // DB2
  const planned = await reconcile(await lake.elsewhere(), { dryRun: true });
  assert.deepEqual(await summary(lake), before);
  assert.deepEqual(await lake.report(), []);
  const done = await reconcile(await lake.elsewhere());
  assert.deepEqual(done, planned);
  assert.deepEqual(await summary(lake), [
    ['c', 3, 115, 'batch', true, 2, 2],
    ['d', 1, 7, 'batch', true, 2, 2],
  ]);
  const report = (await lake.report()).filter((row) => row['aggregate'] === 'hourly');
  assert.deepEqual(
    report.map((row) => [
      row['groups'],
      row['measure'],
      row['streaming_value'],
      row['batch_value'],
      row['difference'],
      row['cause'],
      row['revision'],
    ]),
    [
      ['{"customer":"c"}', 'n', '2', '3', '1', 'late', 2],
      ['{"customer":"c"}', 'bytes', '15', '115', '100', 'late', 2],
    ],
  );
});

test('late rows for a closed window of a date that is not final update gold', async (t) => {
  const lake = await streamed(t);
  await lake.write([{ at: '2026-11-22T08:59:59.999Z', late: true }]);
  await lake.stream(t);
  assert.deepEqual(((await summary(lake)) as unknown[][])[0]!.slice(0, 3), ['c', 3, 16]);
});

test('RC2 rows that the stream brought while the batch was computed wait for the next one', async (t) => {
  const lake = await streamed(t);
  const store = atFirstRead(lake.store, DATE, async () => {
    await lake.write([{ at: '2026-11-22T08:40:00Z', bytes: 1_000, late: true }]);
    await lake.stream(t);
  });
  await reconcile(await lake.elsewhere(store), { dates: [DATE] });
  assert.deepEqual(((await summary(lake)) as unknown[][])[0], ['c', 2, 15, 'batch', true, 1, 1]);
  const [outcome] = await reconcile(await lake.elsewhere());
  assert.ok(outcome?.kind === 'reconciled');
  assert.deepEqual(outcome.tables[0]!.windowsByCause, { late: 1 });
  assert.deepEqual(((await summary(lake)) as unknown[][])[0], ['c', 3, 1015, 'batch', true, 2, 2]);
});

test('RC3 a crash between the gold and the report commit leaves a debt that is paid once', async (t) => {
  const lake = await reconciled(t);
  await lake.write([{ at: '2026-11-22T08:30:00Z', late: true }]);
  await lake.stream(t);
  const [crashed] = await reconcile(await lake.elsewhere(unreported(lake.store)));
  assert.ok(crashed?.kind === 'failed' && crashed.error.code === 'TM_STORE_DENIED');
  assert.deepEqual(await lake.report(), []);
  // One table is final, the other is not; both end up so, and each change is reported once.
  for (let run = 1; run <= 2; run++) await reconcile(await lake.elsewhere());
  const rows = (await lake.report()).map(
    (row) => `${row['aggregate'] as string} ${row['measure'] as string}`,
  );
  assert.deepEqual(rows.toSorted(), ['daily n', 'hourly bytes', 'hourly n']);
});

test('RC1 two at the same time make one revision and one report', async (t) => {
  const lake = await reconciled(t);
  await lake.write([{ at: '2026-11-22T08:30:00Z', late: true }]);
  await lake.stream(t);
  const lakes = await Promise.all([1, 2, 3].map(() => lake.elsewhere()));
  await Promise.all(lakes.map((one) => reconcile(one, { dates: [DATE] })));
  assert.deepEqual(new Set((await lake.gold()).map((row) => row['_revision'])), new Set([2]));
  assert.equal((await lake.report()).length, 3);
  const commits = await lake.tables.gold.get('hourly')!.commits(-1);
  assert.equal(commits.filter(({ operation }) => operation === 'RECONCILE').length, 2);
});

test('RC1 a reconciliation of another date is followed and not begun again for', async (t) => {
  const lake = await streamed(t);
  await lake.write([{ at: '2026-11-21T08:10:00Z' }]);
  await lake.stream(t);
  let begun = 0;
  const store = atFirstRead(lake.store, DATE, async () => {
    await reconcile(await lake.elsewhere(), { dates: ['2026-11-21'] });
  });
  const counting = withMethods(store, {
    async get(key, options) {
      if (key.startsWith(`silver/usage/${DATE}`)) begun += 1;
      return store.get(key, options);
    },
  });
  const [outcome] = await reconcile(await lake.elsewhere(counting), { dates: [DATE] });
  assert.equal(outcome!.kind, 'reconciled');
  assert.equal(begun, 1);
  assert.ok((await lake.gold()).every((row) => row['_is_final'] === true));
});

test('RC3 what a date owes is paid before the files that name it are replaced', async (t) => {
  const lake = await reconciled(t);
  const other = '2026-11-21';
  await lake.write([{ at: `${other}T08:10:00Z` }, { at: `${DATE}T08:30:00Z`, late: true }]);
  await lake.stream(t);
  // While one is at another date, a second one makes revision 2 and ends before its report is in.
  const store = atFirstRead(lake.store, other, async () => {
    const crashing = await lake.elsewhere(unreported(lake.store));
    const [crashed] = await reconcile(crashing, { dates: [DATE] });
    assert.equal(crashed!.kind, 'failed');
    await lake.write([{ at: `${DATE}T08:40:00Z`, bytes: 5, late: true }]);
    await lake.stream(t);
  });
  await reconcile(await lake.elsewhere(store), { dates: [other, DATE] });
  const counts = (await lake.report()).filter(
    (row) => row['aggregate'] === 'hourly' && row['measure'] === 'n',
  );
  assert.deepEqual(
    counts.map((row) => [row['revision'], row['streaming_value'], row['batch_value']]),
    [
      [2, '2', '3'],
      [3, '3', '4'],
    ],
  );
});

test('RC3 one who is overtaken by an earlier revision still brings in its own', async (t) => {
  const lake = await reconciled(t);
  const elsewhere = await lake.elsewhere();
  const [early, behind] = [await openReportTable(elsewhere), await openReportTable(elsewhere)];
  const owed = async (revision: number) => {
    const path = `${DATE}/report-${revision}.parquet`;
    await lake.store.put(`${early.root}/${path}`, new Uint8Array([revision]));
    const report = [{ path, sizeBytes: 1, stats: '{"numRecords":1}' }];
    const note = { startedMs: 0, finishedMs: 0, changedWindows: 1, report };
    return { aggregate: 'hourly', date: DATE, revision, note };
  };
  await settleReport(elsewhere, early, await owed(2));
  await settleReport(elsewhere, behind, await owed(3));
  await settleReport(elsewhere, early, await owed(2));
  const files = (await early.refresh()).files().map(({ path }) => path);
  assert.deepEqual(files.toSorted(), [`${DATE}/report-2.parquet`, `${DATE}/report-3.parquet`]);
});

test('a date that cannot be computed keeps back neither the dates after it nor what was done', async (t) => {
  const lake = await streamed(t);
  await lake.write([{ at: '2026-11-21T08:10:00Z' }, { at: '2026-11-20T08:10:00Z' }]);
  await lake.stream(t);
  await lake.lose('2026-11-21');
  const outcomes = await reconcile(await lake.elsewhere());
  assert.deepEqual(
    outcomes.map((one) => [one.date, one.kind, one.kind === 'failed' && one.error.code]),
    [
      ['2026-11-20', 'reconciled', false],
      ['2026-11-21', 'failed', 'TM_OBJECT_MISSING'],
      [DATE, 'reconciled', false],
    ],
  );
});

test('a store that does not answer ends the run; what was done before is told', async (t) => {
  const lake = await streamed(t);
  await lake.write([{ at: '2026-11-21T08:10:00Z' }, { at: '2026-11-20T08:10:00Z' }]);
  await lake.stream(t);
  const store = atFirstRead(lake.store, '2026-11-21', async () => {
    throw new PipelineError('unavailable', 'TM_STORE_UNAVAILABLE', 'no answer');
  });
  assert.deepEqual(
    (await reconcile(await lake.elsewhere(store))).map(({ date, kind }) => [date, kind]),
    [
      ['2026-11-20', 'reconciled'],
      ['2026-11-21', 'failed'],
    ],
  );
});

test('GW4 a running stream goes on through reconciliations of other dates', async (t) => {
  const lake = await streamed(t);
  const stream = lake.startStream();
  t.after(() => stream.stop());
  await reconcile(await lake.elsewhere(), { dates: [DATE] });
  await lake.write([{ at: '2026-11-23T10:00:00Z' }]);
  stream.tell({ kind: 'wake' });
  await lake.covered();
  assert.equal(stream.restarts, 0);
  assert.equal((await lake.gold()).length, 3);
});

test('silver rows that are taken away leave gold, and a slot without rows has no file', async (t) => {
  const lake = await streamed(t);
  const [kept] = await lake.write([{ at: '2026-11-22T10:00:00Z' }]);
  await lake.stream(t);
  const removes = lake.tables.silver.snapshot
    .files()
    .map(({ path }) => path)
    .filter((path) => path !== kept!.path);
  await lake.write([{ at: '2026-11-22T08:10:00Z', bytes: 3 }], { removes, editAs: 'REBUILD' });
  await lake.stream(t);
  assert.deepEqual(
    ((await summary(lake)) as unknown[][]).map((row) => row.slice(0, 3)),
    [
      ['c', 1, 3],
      ['c', 1, 1],
    ],
  );
});

test('a rebuilt final date is marked and reported as such; an emptied one stays final', async (t) => {
  const lake = await reconciled(t);
  const removes = lake.tables.silver.snapshot.files().map(({ path }) => path);
  const moved = [{ at: '2026-11-21T08:10:00Z', bytes: 3 }];
  await lake.write(moved, { removes, editAs: 'REBUILD' });
  await lake.stream(t);
  assert.equal((await lake.gold()).length, 3);
  const outcomes = await reconcile(await lake.elsewhere());
  assert.deepEqual(
    outcomes.map(({ date, kind }) => [date, kind]),
    [
      ['2026-11-21', 'reconciled'],
      [DATE, 'reconciled'],
    ],
  );
  assert.deepEqual(await summary(lake), [['c', 1, 3, 'batch', true, 1, 2]]);
  assert.deepEqual(
    new Set((await lake.report()).map((row) => row['cause'])),
    new Set(['schema_replay']),
  );
  assert.deepEqual(await reconcile(await lake.elsewhere()), []);
  assert.deepEqual(await reconcile(await lake.elsewhere(), { dates: [DATE] }), [
    { date: DATE, kind: 'already-final', revision: 2 },
  ]);
});

test('gold that was tampered with is corrected once the date is computed', async (t) => {
  const lake = await streamed(t);
  const table = lake.tables.gold.get('hourly')!;
  const [first] = await lake.goldFiles();
  const outcome = await table.commit({
    operation: 'DELETE',
    adds: [],
    removes: [first!.path],
    progress: [],
  });
  assert.equal(outcome.kind, 'committed');
  await reconcile(await lake.elsewhere());
  const report = (await lake.report()).filter((row) => row['measure'] === 'n');
  assert.deepEqual(
    report.map((row) => [row['streaming_value'], row['batch_value'], row['cause']]),
    [[null, '2', 'missed_by_streaming']],
  );
});

test('a date that is not over is left alone, and so is one without events', async (t) => {
  const lake = await streamed(t);
  await lake.write([{ at: '2026-11-23T10:00:00Z' }]);
  await lake.stream(t);
  const dates = ['2026-11-20', '2026-11-23'];
  assert.deepEqual(await reconcile(await lake.elsewhere(), { dates }), [
    { date: '2026-11-20', kind: 'empty' },
    { date: '2026-11-23', kind: 'open', untilMs: Date.parse('2026-11-24T02:00:00Z') },
  ]);
  assert.ok((await lake.gold()).every((row) => row['_is_final'] === false));
});

test('CL1 a date waits for what is in bronze and not yet in silver', async (t) => {
  const lake = await streamed(t);
  await lake.arrive(0, 3);
  await lake.takeIn(0, '2026-11-22T23:00:00Z');
  await lake.arrive(0, 2);
  const stateNow = async (): Promise<string> => {
    const elsewhere = await lake.elsewhere();
    return stateOfDate(elsewhere.config, await viewLake(elsewhere), DATE).kind;
  };
  // Quiet for long, but silver does not know its last records.
  lake.wait(3_600_000);
  assert.equal(await stateNow(), 'arriving');
  await lake.takeIn(0, '2026-11-22T23:50:00Z');
  assert.equal(await stateNow(), 'over');
});

test('dates are computed in parts when their windows exceed the memory for them', async (t) => {
  const lake = await SilverLake.open();
  const events = Array.from({ length: 24 * 200 }, (_, i) => ({
    at: new Date(Date.parse('2026-11-22T00:00:00Z') + (i % 24) * 3_600_000).toISOString(),
    customer: `customer-${i % 997}`,
  }));
  await lake.write(events.slice(0, 2_000));
  await lake.write(events.slice(2_000));
  await lake.stream(t);
  const reconcileTightly = async (): Promise<unknown> => {
    const whole = await lake.elsewhere();
    const limits = { ...whole.config.limits, goldStateBytes: 50_000 };
    const [outcome] = await reconcile({ ...whole, config: { ...whole.config, limits } });
    assert.ok(outcome?.kind === 'reconciled');
    return outcome.tables.map(({ events: n, windowsByCause }) => [n, windowsByCause]);
  };
  assert.deepEqual(await reconcileTightly(), [
    [4_800, {}],
    [4_800, {}],
  ]);
  // Evidence is counted for each part anew: in hours that are far apart, and for the whole day.
  const hours = ['00', '07', '12', '23'];
  await lake.write(hours.map((hour) => ({ at: `${DATE}T${hour}:59:59Z`, late: true })));
  await lake.stream(t);
  assert.deepEqual(await reconcileTightly(), [
    [4_804, { late: 4 }],
    [4_804, { late: 1 }],
  ]);
  const report = (await lake.report()).filter((row) => row['measure'] === 'n');
  assert.equal(report.length, 5);
});

test('the supervisor lists what is due, starts it on request, and refuses open dates', async (t) => {
  const lake = await streamed(t);
  await lake.write([{ at: '2026-11-23T10:00:00Z' }]);
  await lake.stream(t);
  const desk = new ReconciliationDesk(await lake.elsewhere());
  t.after(() => desk.close());
  const listed = async (): Promise<unknown> =>
    (await desk.list()).map(({ date, state, changedWindows }) => [date, state, changedWindows]);
  assert.deepEqual(await listed(), [[DATE, 'needed', null]]);
  const refused = await desk.start({ date: '2026-11-23' });
  assert.equal(refused.kind, 'conflict');
  assert.deepEqual(await desk.start({}), { kind: 'done', value: { dates: [DATE] } });
  assert.equal((await desk.start({})).kind, 'conflict', 'one at a time');
  await eventually(async () => assert.deepEqual(await listed(), [[DATE, 'done', 0]]));
  await lake.write([{ at: '2026-11-22T08:30:00Z', late: true }]);
  await lake.stream(t);
  assert.deepEqual(await listed(), [[DATE, 'needed', 0]]);
  await desk.reconcileDue(new AbortController().signal);
  assert.deepEqual(await listed(), [[DATE, 'done', 2]]);
});

test('the supervisor shows a failed date until it is reconciled, goes on with others, waits for arriving ones', async (t) => {
  const lake = await streamed(t);
  const [lost, other] = ['2026-11-20', '2026-11-21'];
  await lake.write([{ at: `${lost}T08:10:00Z` }, { at: `${other}T08:10:00Z` }]);
  await lake.stream(t);
  await lake.arrive(0, 1);
  await lake.takeIn(0, `${DATE}T23:00:00Z`);
  const findAgain = await lake.lose(lost);
  const desk = new ReconciliationDesk(await lake.elsewhere());
  t.after(() => desk.close());
  const listed = async (): Promise<unknown> =>
    (await desk.list()).map(({ date, state, reason }) => [
      date,
      state,
      reason?.slice(0, 9) ?? null,
    ]);

  const stop = new AbortController();
  const due = desk.reconcileDue(stop.signal);
  await eventually(async () =>
    assert.deepEqual(await listed(), [
      [DATE, 'needed', 'it is ove'],
      [other, 'done', null],
      [lost, 'failed', 'data file'],
    ]),
  );
  // It waits for the partition that is in the middle of DATE, and says at the end what failed.
  stop.abort();
  await assert.rejects(due, { code: 'TM_OBJECT_MISSING' });
  await lake.takeIn(0, '2026-11-23T09:00:00Z');
  await assert.rejects(desk.reconcileDue(new AbortController().signal), {
    code: 'TM_OBJECT_MISSING',
  });
  assert.deepEqual(((await listed()) as unknown[][])[0], [DATE, 'done', null]);

  await findAgain();
  lake.wait(1_000);
  await reconcile(await lake.elsewhere(), { dates: [lost] });
  assert.deepEqual(((await listed()) as unknown[][])[2], [lost, 'done', null]);
  await lake.write([{ at: `${lost}T08:20:00Z`, late: true }]);
  await lake.stream(t);
  assert.deepEqual(((await listed()) as unknown[][])[2], [lost, 'needed', 'late data']);
});

test('a dead letter that was retried is the cause of what it changed', async (t) => {
  const lake = await reconciled(t);
  await lake.write([{ at: '2026-11-22T08:30:00Z', late: true }], { editAs: 'RETRY' });
  await lake.stream(t);
  const [outcome] = await reconcile(await lake.elsewhere());
  assert.ok(outcome?.kind === 'reconciled');
  assert.deepEqual(outcome.tables[0]!.windowsByCause, { dead_letter_retried: 1 });
});

test('CE1 files that were merely rearranged since explain nothing', async (t) => {
  const lake = await reconciled(t);
  await lake.write([{ at: '2026-11-22T08:30:00Z', late: true }]);
  const { silver } = lake.tables;
  const moved = await Promise.all(
    silver.snapshot.files().map(async (file, i) => {
      const path = `${DATE}/moved-${i}.parquet`;
      await lake.store.put(
        `${silver.root}/${path}`,
        (await lake.store.get(`${silver.root}/${file.path}`))!,
      );
      return { from: file.path, to: { ...file, path } };
    }),
  );
  const outcome = await silver.commit({
    operation: 'OPTIMIZE',
    adds: moved.map(({ to }) => to),
    removes: moved.map(({ from }) => from),
    dataChange: false,
    progress: [],
  });
  assert.equal(outcome.kind, 'committed');
  await lake.stream(t);
  const [done] = await reconcile(await lake.elsewhere());
  assert.ok(done?.kind === 'reconciled');
  assert.deepEqual(done.tables[0]!.windowsByCause, { late: 1 });
});
