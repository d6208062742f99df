/** The commit protocol over a store that loses requests and responses (P2, P3; faults 3, 4, 66 to 72). */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { DeltaTable } from '../../../src/storage/delta/delta-table.ts';
import {
  append,
  committed,
  DAY_MS,
  names,
  newFile,
  openTable,
  pathOf,
  ROOT,
  SCHEMA,
  versionKey,
  world,
  type World,
} from './harness.ts';
import { field, struct } from '../../../src/pipeline/types.ts';

const COMMIT = /_delta_log\/\d+\.json$/;
const p = (expected: bigint | undefined, next: bigint) => ({ appId: 'p', expected, next });

/** A world with one table, opened by `count` processes that know version 0. */
async function tables(count: number) {
  const all = world();
  await openTable(all.process().env);
  const processes = await Promise.all(
    Array.from({ length: count }, async () => {
      const process = all.process();
      return { ...process, table: await openTable(process.env) };
    }),
  );
  return { ...all, processes };
}

async function logText(all: Pick<World, 'store'>, version: number): Promise<string> {
  return new TextDecoder().decode(await all.store.get(versionKey(version)));
}

const creates = (link: { calls: { operation: string; key: string }[] }): string[] =>
  link.calls
    .filter((call) => call.operation === 'createIfAbsent')
    .map((call) => String(Number(call.key.slice(-25, -5))));

describe('a commit', () => {
  it('is one conditional create, and the state follows without reading the log', async () => {
    const { processes } = await tables(1);
    const { table, link } = processes[0]!;
    link.calls.length = 0;
    assert.deepEqual(await table.commit(append('a', p(undefined, 5n))), {
      kind: 'committed',
      version: 1,
      alreadyOurs: false,
    });
    assert.deepEqual(
      link.calls.map((call) => call.operation),
      ['createIfAbsent'],
    );
    assert.deepEqual(names(table.snapshot.files()), ['a']);
    assert.equal(table.snapshot.progress('p'), 5n);
  });

  it('whose response was lost is found again and not repeated (fault 66)', async () => {
    const all = await tables(1);
    const { table, script, link } = all.processes[0]!;
    script.next('createIfAbsent', { kind: 'lost-response' }, { key: COMMIT });
    assert.deepEqual(await table.commit(append('a', p(undefined, 5n))), {
      kind: 'committed',
      version: 1,
      alreadyOurs: true,
    });
    assert.equal(link.faultCount('lost-response'), 1);
    assert.equal(await all.store.get(versionKey(2)), undefined);
  });

  it('whose request was lost is sent again with the same bytes (P3)', async () => {
    const all = await tables(1);
    const { table, script, link } = all.processes[0]!;
    script.next('createIfAbsent', { kind: 'lost-request' }, { key: COMMIT, times: 3 });
    const outcome = await table.commit(append('a'));
    assert.deepEqual(outcome, { kind: 'committed', version: 1, alreadyOurs: false });
    assert.deepEqual(creates(link), ['1', '1', '1', '1']);
  });

  it('landing after the client gave up on it is the same commit (fault 67)', async () => {
    const all = await tables(1);
    const { table, script, link } = all.processes[0]!;
    script
      .next('createIfAbsent', { kind: 'lands-later', delayMs: 30_000 }, { key: COMMIT })
      .next('createIfAbsent', { kind: 'lost-request' }, { key: COMMIT, times: 4 });
    assert.equal(committed(await table.commit(append('a'))), 1);
    await link.landPending();
    assert.equal(committed(await table.commit(append('b'))), 2);
    const fresh = await openTable(all.process().env);
    assert.deepEqual(names(fresh.snapshot.files()), ['a', 'b']);
    assert.equal(fresh.snapshot.version, 2);
  });

  it('never moves on while its version is undecided (P3)', async () => {
    const all = await tables(2);
    const [ours, other] = all.processes as [(typeof all.processes)[0], (typeof all.processes)[0]];
    ours.script.next('createIfAbsent', { kind: 'lost-request' }, { key: COMMIT, times: 2 });
    ours.script.next('get', { kind: 'unavailable' }, { key: COMMIT, times: 2 });
    const pending = ours.table.commit(append('ours'));
    assert.equal(committed(await other.table.commit(append('other'))), 1);
    assert.equal(committed(await pending), 2);
    const tried = creates(ours.link);
    assert.deepEqual(tried, ['1', '1', '1', '2'], 'version 2 only after 1 was read as lost');
  });

  it('tells a 412 of its own write from a lost race (fault 68)', async () => {
    const all = await tables(1);
    const { table, script } = all.processes[0]!;
    // The first attempt lands unseen, its read-back fails, the second attempt meets it.
    script.next('createIfAbsent', { kind: 'lost-response' }, { key: COMMIT });
    script.next('get', { kind: 'unavailable' }, { key: COMMIT });
    assert.deepEqual(await table.commit(append('a')), {
      kind: 'committed',
      version: 1,
      alreadyOurs: true,
    });
  });

  it('is thrown as unavailable only when nothing can have been written (fault 69)', async () => {
    const all = await tables(1);
    const { table, script, link } = all.processes[0]!;
    script.next('createIfAbsent', { kind: 'unavailable' }, { key: COMMIT, times: 5 });
    await assert.rejects(table.commit(append('a')), { kind: 'unavailable' });
    assert.equal(link.faultCount('unavailable'), 5);
    assert.equal(committed(await table.commit(append('a'))), 1);
  });

  it('that may have landed outlasts refusals (P3)', async () => {
    const all = await tables(1);
    const { table, script } = all.processes[0]!;
    script.next('createIfAbsent', { kind: 'lost-response' }, { key: COMMIT });
    script.next('get', { kind: 'unavailable' }, { key: COMMIT, times: 1 });
    script.next('createIfAbsent', { kind: 'unavailable' }, { key: COMMIT, times: 20 });
    assert.equal(committed(await table.commit(append('a'))), 1);
  });

  it('given up while undecided is unknown, and the table tells afterwards (P3)', async () => {
    const all = await tables(1);
    const { table, script, link } = all.processes[0]!;
    script.next('createIfAbsent', { kind: 'lost-request' }, { key: COMMIT, times: 1_000 });
    const stop = new AbortController();
    all.ambient.clock.after(120_000, () => stop.abort());
    const request = { ...append('a', p(undefined, 5n)), signal: stop.signal };
    assert.deepEqual(await table.commit(request), { kind: 'unknown', version: 1 });
    assert.ok(creates(link).every((version) => version === '1'));
    assert.ok(creates(link).length < 40, 'backs off');
  });

  it('does not start once stopped', async () => {
    const { processes } = await tables(1);
    const { table, link } = processes[0]!;
    link.calls.length = 0;
    const request = { ...append('a'), signal: AbortSignal.abort() };
    await assert.rejects(table.commit(request), { kind: 'unavailable', code: 'TM_STOPPED' });
    assert.equal(link.calls.length, 0);
  });
});

describe('a lost race', () => {
  it('moves the same files to the next version (C2)', async () => {
    const all = await tables(2);
    const [first, second] = all.processes;
    await first!.table.commit(append('a', p(undefined, 1n)));
    const outcome = await second!.table.commit(
      append('b', { appId: 'q', expected: undefined, next: 1n }),
    );
    assert.equal(committed(outcome), 2);
    assert.deepEqual(names(second!.table.snapshot.files()), ['a', 'b']);
    const info = JSON.parse((await logText(all, 2)).split('\n')[0]!) as {
      commitInfo: { readVersion: number; txnId: string };
    };
    assert.equal(info.commitInfo.readVersion, 1);
    assert.match(info.commitInfo.txnId, /\.2$/);
  });

  it('fences the writer whose progress moved on without it (P2, fault 3)', async () => {
    const { processes, store } = await tables(2);
    const [zombie, successor] = processes;
    await successor!.table.commit(append('successor', p(undefined, 7n)));
    assert.deepEqual(await zombie!.table.commit(append('zombie', p(undefined, 7n))), {
      kind: 'fenced',
      appId: 'p',
      expected: undefined,
      actual: 7n,
    });
    assert.equal(await store.get(versionKey(2)), undefined, 'nothing was written');
  });

  it('is evaluated against the version before the one that is created (C1)', async () => {
    const { processes } = await tables(3);
    const [ours, b, c] = processes;
    await b!.table.commit(append('b1', { appId: 'other', expected: undefined, next: 1n }));
    // While we rebase onto version 1, version 2 takes our progress.
    let armed = true;
    const original = ours!.link.createIfAbsent.bind(ours!.link);
    ours!.link.createIfAbsent = async (key, body) => {
      if (armed && key.endsWith('2.json')) {
        armed = false;
        await c!.table.refresh();
        await c!.table.commit(append('c1', p(undefined, 9n)));
      }
      return original(key, body);
    };
    const outcome = await ours!.table.commit(append('ours', p(undefined, 8n)));
    assert.deepEqual(outcome, { kind: 'fenced', appId: 'p', expected: undefined, actual: 9n });
  });

  it('is no refusal by a snapshot that is out of date (D3)', async () => {
    const { processes } = await tables(2);
    const [stale, other] = processes;
    await other!.table.commit(append('a', p(undefined, 3n)));
    const outcome = await stale!.table.commit(append('b', p(3n, 4n)));
    assert.equal(committed(outcome), 2);
  });

  it('of a file to remove is a conflict, a foreign append is none', async () => {
    const { processes } = await tables(2);
    const [ours, other] = processes;
    await other!.table.commit(append('a'));
    await ours!.table.refresh();
    await other!.table.commit(append('b'));
    const compact = (name: string, removed: string) => ({
      operation: 'OPTIMIZE',
      adds: [newFile(name)],
      removes: [pathOf(removed)],
      dataChange: false,
      progress: [],
    });
    assert.equal(committed(await ours!.table.commit(compact('a2', 'a'))), 3);
    assert.deepEqual(await other!.table.commit(compact('a3', 'a')), {
      kind: 'conflict',
      reason: `the file to remove is gone: ${pathOf('a')}`,
    });
    assert.deepEqual(names(other!.table.snapshot.files()), ['a2', 'b']);
    assert.deepEqual(names(other!.table.snapshot.tombstones()), ['a']);
  });

  it('to a change of schema is a conflict until the writer has seen it (fault 17)', async () => {
    const { processes } = await tables(2);
    const [ours, other] = processes;
    const schema = struct([...SCHEMA.fields, field('extra', 'string')]);
    await other!.table.commit({ operation: 'ALTER', adds: [], progress: [], metadata: { schema } });
    const basedOn = ours!.table.snapshot;
    const outcome = await ours!.table.commit(append('a'));
    assert.deepEqual(outcome.kind, 'conflict');
    assert.equal((await ours!.table.commit({ ...append('a'), basedOn })).kind, 'conflict');
    assert.equal(committed(await ours!.table.commit(append('a'))), 2);
    assert.deepEqual(ours!.table.snapshot.schema, schema);
  });

  it('to a protocol upgrade stops the writer (fault 18)', async () => {
    const { processes, store } = await tables(1);
    const upgrade =
      '{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}\n';
    await store.put(versionKey(1), new TextEncoder().encode(upgrade));
    await assert.rejects(processes[0]!.table.commit(append('a')), {
      kind: 'invalid',
      code: 'TM_LOG_UNSUPPORTED',
      message: /deletionVectors/,
    });
    assert.equal(await store.get(versionKey(2)), undefined);
  });

  it('while in doubt to an entry nobody can read stops the writer', async () => {
    const { processes, store } = await tables(1);
    const { table, script } = processes[0]!;
    script.next('createIfAbsent', { kind: 'lost-request' }, { key: COMMIT });
    await store.put(versionKey(1), new TextEncoder().encode('{"add":'));
    await assert.rejects(table.commit(append('a')), { code: 'TM_LOG_CORRUPT' });
  });
});

describe('the phantom rule (D4, fault 4)', () => {
  /** A writer that slept while others committed, checkpointed and cleaned the log up. */
  async function overslept(cleanUpTo: number) {
    const all = await tables(2);
    const [sleeper, other] = all.processes as [
      (typeof all.processes)[0],
      (typeof all.processes)[0],
    ];
    for (let i = 1; i <= 5; i++) {
      await other.table.commit(
        append(`other${i}`, p(i === 1 ? undefined : BigInt(i - 1), BigInt(i))),
      );
    }
    await other.table.checkpoint();
    const cleanUp = async (): Promise<void> => {
      for (let v = 0; v <= cleanUpTo; v++) await all.store.delete(versionKey(v));
    };
    return { ...all, sleeper, other, cleanUp };
  }

  it('refreshes by listing before the first attempt when the log was not seen for long', async () => {
    const { sleeper, cleanUp, ambient, store } = await overslept(4);
    await cleanUp();
    ambient.advance(40 * DAY_MS);
    const outcome = await sleeper.table.commit(append('late', p(undefined, 1n)));
    assert.deepEqual(outcome, { kind: 'fenced', appId: 'p', expected: undefined, actual: 5n });
    assert.equal(await store.get(versionKey(1)), undefined, 'no version came back to life');
  });

  it('does not count a create that only succeeded because the version was cleaned up', async () => {
    const { sleeper, cleanUp, ambient } = await overslept(4);
    const original = sleeper.link.createIfAbsent.bind(sleeper.link);
    sleeper.link.createIfAbsent = async (key, body) => {
      sleeper.link.createIfAbsent = original;
      await cleanUp();
      ambient.advance(40 * DAY_MS);
      return original(key, body);
    };
    const outcome = await sleeper.table.commit(append('late', p(undefined, 1n)));
    assert.deepEqual(outcome, { kind: 'fenced', appId: 'p', expected: undefined, actual: 5n });
  });

  it('does not create a version again that was there and is gone', async () => {
    const { sleeper, cleanUp, store } = await overslept(4);
    const original = sleeper.link.createIfAbsent.bind(sleeper.link);
    sleeper.link.createIfAbsent = async (key, body) => {
      sleeper.link.createIfAbsent = original;
      const outcome = await original(key, body);
      await cleanUp();
      return outcome;
    };
    const outcome = await sleeper.table.commit(append('late', p(undefined, 1n)));
    assert.deepEqual(outcome, { kind: 'fenced', appId: 'p', expected: undefined, actual: 5n });
    assert.equal(await store.get(versionKey(1)), undefined);
  });

  it('commits the files again at the head when no progress forbids it', async () => {
    const { sleeper, cleanUp, ambient, process } = await overslept(4);
    const original = sleeper.link.createIfAbsent.bind(sleeper.link);
    sleeper.link.createIfAbsent = async (key, body) => {
      sleeper.link.createIfAbsent = original;
      await cleanUp();
      ambient.advance(40 * DAY_MS);
      return original(key, body);
    };
    assert.equal(committed(await sleeper.table.commit(append('late'))), 6);
    const fresh = await openTable(process().env);
    assert.ok(names(fresh.snapshot.files()).includes('late'));
  });

  it('counts a slow create that others have built upon', async () => {
    const { processes, ambient } = await tables(2);
    const [slow, other] = processes as [(typeof processes)[0], (typeof processes)[0]];
    const original = slow.link.createIfAbsent.bind(slow.link);
    slow.link.createIfAbsent = async (key, body) => {
      slow.link.createIfAbsent = original;
      const outcome = await original(key, body);
      await other.table.commit(append('other'));
      ambient.advance(DAY_MS);
      return outcome;
    };
    assert.equal(committed(await slow.table.commit(append('slow'))), 1);
    assert.deepEqual(names((await slow.table.refresh()).files()), ['other', 'slow']);
  });

  it('is unknown when it cannot be confirmed', async () => {
    const { processes, ambient } = await tables(1);
    const { table, script, link } = processes[0]!;
    const original = link.createIfAbsent.bind(link);
    link.createIfAbsent = async (key, body) => {
      const outcome = await original(key, body);
      ambient.advance(DAY_MS);
      return outcome;
    };
    script.next('list', { kind: 'unavailable' });
    assert.deepEqual(await table.commit(append('a')), { kind: 'unknown', version: 1 });
  });

  it('notices a reader that was left behind by log clean-up', async () => {
    const { sleeper, cleanUp, ambient } = await overslept(4);
    await cleanUp();
    assert.equal((await sleeper.table.refresh()).version, 0, 'a GET of version 1 finds nothing');
    ambient.advance(40 * DAY_MS);
    assert.equal((await sleeper.table.refresh()).version, 5);
    await assert.rejects(sleeper.table.commits(0), {
      kind: 'corrupt',
      code: 'TM_OBJECT_MISSING',
      message: new RegExp(versionKey(1)),
    });
  });
});

describe('many writers', () => {
  it('32 of them commit without gap, loss or double (fault 23, I10, I17)', async () => {
    const { processes, process } = await tables(32);
    await Promise.all(
      processes.map(async ({ table }, writer) => {
        for (let i = 0; i < 4; i++) {
          const expected = i === 0 ? undefined : BigInt(i - 1);
          const appId = `writer${writer}`;
          const request = append(`w${writer}-${i}`, { appId, expected, next: BigInt(i) });
          committed(await table.commit(request));
        }
      }),
    );
    const fresh = await openTable(process().env);
    assert.equal(fresh.snapshot.version, 128);
    assert.equal(fresh.snapshot.fileCount, 128);
    const commits = await fresh.commits(0);
    assert.deepEqual(
      commits.map(({ version }) => version),
      Array.from({ length: 128 }, (_, i) => i + 1),
    );
    assert.ok(commits.every(({ adds, progress }) => adds.length === 1 && progress.size === 1));
    for (const { table } of processes) {
      const seen = await table.refresh();
      assert.deepEqual(names(seen.files()), names(fresh.snapshot.files()));
    }
  });

  it('of one partition let exactly one of them through per step (P2, I17)', async () => {
    const { processes, process } = await tables(8);
    let fenced = 0;
    for (let step = 0n; step < 5n; step++) {
      const expected = step === 0n ? undefined : step - 1n;
      const outcomes = await Promise.all(
        processes.map(({ table }, writer) =>
          table.commit(append(`s${step}-w${writer}`, p(expected, step))),
        ),
      );
      assert.equal(outcomes.filter(({ kind }) => kind === 'committed').length, 1);
      fenced += outcomes.filter(({ kind }) => kind === 'fenced').length;
    }
    assert.equal(fenced, 35);
    const fresh = await openTable(process().env);
    assert.deepEqual([fresh.snapshot.version, fresh.snapshot.fileCount], [5, 5]);
  });

  it('of one DeltaTable take turns (D2)', async () => {
    const { processes } = await tables(1);
    const { table, link } = processes[0]!;
    link.calls.length = 0;
    const outcomes = await Promise.all(
      Array.from({ length: 10 }, (_, i) => table.commit(append(`f${i}`))),
    );
    assert.deepEqual(outcomes.map(committed), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert.deepEqual(
      new Set(link.calls.map((call) => call.operation)),
      new Set(['createIfAbsent']),
      'no race was lost',
    );
  });

  it('a failed commit does not hold up the next', async () => {
    const { processes } = await tables(1);
    const { table, script } = processes[0]!;
    script.next('createIfAbsent', { kind: 'unavailable' }, { times: 5 });
    const first = table.commit(append('a'));
    const second = table.commit(append('b'));
    await assert.rejects(first, { kind: 'unavailable' });
    assert.equal(committed(await second), 1);
  });
});

describe('random faults', () => {
  for (let seed = 1; seed <= 12; seed++) {
    it(`with seed ${seed} leave every committed step exactly once (I2, I3)`, async () => {
      const { randomFaults } = await import('../../support/faulty-object-store.ts');
      const all = world({ seed });
      await openTable(all.process().env);
      const plan = randomFaults({
        random: all.ambient.random,
        probability: 0.3,
        delayMsMax: 5_000,
      });
      const STEPS = 8n;

      /** A writer that starts from the table again after every outcome but success. */
      const write = async (writer: number): Promise<void> => {
        const appId = `p${writer % 2}`;
        let table: DeltaTable | undefined;
        for (let tries = 0; tries < 500; tries++) {
          try {
            table ??= await openTable(all.process({ plan, checkpointInterval: 4 }).env);
            const at = (await table.refresh()).progress(appId);
            const next = at === undefined ? 0n : at + 1n;
            if (next === STEPS) return await table.idle();
            await table.commit(
              append(`${appId}-${next}-w${writer}-${tries}`, { appId, expected: at, next }),
            );
          } catch (thrown) {
            assert.equal((thrown as { kind?: string }).kind, 'unavailable', String(thrown));
            if (all.ambient.random.next() < 0.3) table = undefined;
          }
        }
        assert.fail('no progress');
      };
      await Promise.all([0, 1, 2, 3].map(write));
      await all.ambient.clock.sleep(60_000);

      const fresh = await openTable(all.process().env);
      const { snapshot } = fresh;
      assert.equal(snapshot.version, 16);
      assert.deepEqual([snapshot.progress('p0'), snapshot.progress('p1')], [7n, 7n]);
      const steps = names(snapshot.files()).map((name) => name.split('-').slice(0, 2).join('-'));
      assert.deepEqual(
        steps,
        ['p0', 'p1'].flatMap((app) => Array.from({ length: 8 }, (_, i) => `${app}-${i}`)),
      );
      const ids = new Set<string>();
      for (let v = 0; v <= 16; v++) {
        const info = JSON.parse((await logText(all, v)).split('\n')[0]!) as {
          commitInfo: { txnId: string };
        };
        ids.add(info.commitInfo.txnId);
      }
      assert.equal(ids.size, 17, 'every nonce is unique (I10)');
      assert.equal(await all.store.get(`${ROOT}/_delta_log/${'9'.repeat(20)}.json`), undefined);
    });
  }
});
