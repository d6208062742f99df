/**
 * Issue 5: every operation on Kafka, Redis and S3, one after the other on one pipeline. After each the
 * ledger adds up by commits and by data files, and no event and no window has changed.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemAmbient } from '../../src/ambient.ts';
import { dateText } from '../../src/pipeline/progress.ts';
import { PipelineFixture } from '../support/pipeline-fixture.ts';
import { TableReader } from '../support/pipeline-tables.ts';
import { attachUsage, usageDefinition } from '../support/pipeline-usage.ts';

const EVENTS = 6_000;
/** Three dates at least, of which the first are beyond `hot`. */
const HOURS = 60;
const DAY_MS = 86_400_000;

interface Step {
  readonly what: string;
  readonly args: readonly string[];
}

test('operations on Kafka, Redis and S3 change neither events nor windows', async (t) => {
  const pipeline = await PipelineFixture.create(t, {
    definition: {
      ...usageDefinition({ maxRows: 500, maxLatency: '50ms' }),
      retention: { bronze: { hot: '1d', archive: '7y' } },
    },
    on: 'servers',
  });
  const start = new Date(Date.now() - HOURS * 3_600_000).toISOString();
  const span = ['--hours', String(HOURS), '--start', start, '--duplicates', '0.2'];
  // So many copies that some lie on the other side of a midnight, in another file than their event.
  await pipeline.json(['generate', '--events', String(EVENTS), ...span]);
  await pipeline.runUntilCaughtUp(['--workers', '2']);
  await pipeline.verify();
  const reader = await TableReader.open(t);
  const before = await contents(reader, pipeline);
  assert.ok(before.events > 0.7 * EVENTS);

  const today = Math.floor(systemAmbient.clock.nowMs() / DAY_MS);
  const [yesterday, dayBefore] = [dateText(today - 1), dateText(today - 2)];
  const steps: readonly Step[] = [
    { what: 'compaction', args: ['table', 'optimize', '--all'] },
    { what: 'replay of a whole day', args: ['replay', '--date', yesterday] },
    { what: 'retry of dead letters that stay invalid', args: ['dlq', 'retry'] },
    { what: 'rebuild under the same schema', args: ['replay', '--rebuild', '--date', yesterday] },
    { what: 'retention', args: ['retention', 'apply'] },
    { what: 'replay from the archive', args: ['replay', '--date', dayBefore] },
  ];
  for (const { what, args } of steps) {
    await pipeline.json(args);
    await pipeline.runUntilCaughtUp();
    await pipeline.verify();
    assert.deepEqual(await contents(reader, pipeline), before, what);
    t.diagnostic(`${what}: unchanged`);
  }

  const archived = await reader.row('SELECT count(*)::INTEGER AS n FROM archive');
  assert.ok(Number(archived['n']) > 0, 'retention moved the first date');

  // Version 0 is the empty table: silver may have taken every record in version 1.
  await pipeline.json(['table', 'restore', 'silver.api_usage_events', '--version', '0']);
  const { ok } = JSON.parse((await pipeline.command(['verify'])).stdout) as { ok: boolean };
  assert.equal(ok, false, 'the ledger misses the rows that the restore took away');
  await pipeline.json(['replay', '--from', start]);
  await pipeline.runUntilCaughtUp();
  await pipeline.verify();
  assert.deepEqual(await contents(reader, pipeline), before, 'restore, then replay');

  // Yesterday stays open until two o'clock; the day before is over, and 60 hours reach into it.
  await pipeline.json(['reconcile', '--date', dayBefore]);
  await pipeline.verify();
  assert.deepEqual(await contents(reader, pipeline), before, 'reconciliation');
  const final = await reader.row(
    `SELECT count(*) FILTER (NOT _is_final)::INTEGER AS open, count(*)::INTEGER AS n FROM daily
      WHERE _event_date = DATE '${dayBefore}'`,
  );
  assert.ok(Number(final['n']) > 0);
  assert.equal(final['open'], 0);

  const { code, stdout } = await pipeline.command(['checkpoint', 'show']);
  assert.equal(code, 0);
  assert.match(stdout, /"nextOffset"|"offsets"/);
});

/** What must stay: every event with its values, every window with its measures. */
async function contents(reader: TableReader, pipeline: PipelineFixture) {
  const lake = await pipeline.lakeFolder();
  await attachUsage(reader, lake);
  await reader.attach('archive', `${lake}/archive/bronze/api_usage_events`).catch(() => undefined);
  const hashOf = async (rows: string): Promise<unknown> => {
    const { hash } = await reader.row(
      `SELECT md5(string_agg(row, '|' ORDER BY row)) AS hash FROM
        (SELECT md5(t::VARCHAR) AS row FROM (${rows}) AS t)`,
    );
    return hash;
  };
  const { n } = await reader.row('SELECT count(*)::INTEGER AS n FROM silver');
  const measured = '* EXCLUDE (_source, _is_final, _revision, _silver_version)';
  return {
    events: Number(n),
    silver: await hashOf('SELECT * FROM silver'),
    dead: await hashOf('SELECT * FROM dead'),
    hourly: await hashOf(`SELECT ${measured} FROM hourly`),
    daily: await hashOf(`SELECT ${measured} FROM daily`),
  };
}
