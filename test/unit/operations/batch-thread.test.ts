/** BT1, BT2, DB1: what the batch's thread holds, and that it is bounded. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerCall, type Call } from '../../../src/actors/runtime/compute-thread.ts';
import type { ThreadHost } from '../../../src/ambient.ts';
import {
  type BatchThreadData,
  createBatchThreadApi,
} from '../../../src/operations/reconcile/batch-thread.ts';
import type { ReconcileLake } from '../../../src/operations/reconcile/lake-view.ts';
import { reconcile } from '../../../src/operations/reconcile/reconcile.ts';
import { SilverLake } from '../../support/silver-lake.ts';

const DATE = '2026-11-22';

async function oneFile(): Promise<{ readonly lake: SilverLake; readonly parquet: Uint8Array }> {
  const lake = await SilverLake.open();
  const [file] = await lake.write([{ at: `${DATE}T08:10:00Z` }]);
  return { lake, parquet: (await lake.store.get(`silver/usage/${file!.path}`))! };
}

test('changed windows are kept for a report only when there will be one', async () => {
  const { lake, parquet } = await oneFile();
  const { gold: aggregates, event } = lake.config;
  const slot = { aggregate: 'hourly', slot: Date.parse(`${DATE}T08:00:00Z`) };
  for (const isReported of [false, true]) {
    const thread = createBatchThreadApi({ aggregates, event, isReported });
    thread.begin({ slots: [slot] });
    thread.add({ parquet });
    const { changes } = thread.finish({
      ...slot,
      revision: 1,
      silverVersion: 1,
      before: [],
      wasRebuilt: false,
      wasRestored: false,
    }).value;
    assert.equal(changes.windows, 1);
    const report = thread.takeReport({
      aggregate: 'hourly',
      revision: 1,
      silverVersion: 1,
      reconciledMs: 0,
      windowsMin: 1,
    });
    assert.equal(report !== undefined, isReported);
  }
});

test('DB1 evidence counts as memory: slots that fit without it are halved with it', async (t) => {
  const { lake } = await oneFile();
  await lake.stream(t);
  await reconcile(await lake.elsewhere());
  const late = Array.from({ length: 24 * 50 }, (_, i) => ({
    at: `${DATE}T${String(i % 24).padStart(2, '0')}:30:00Z`,
    customer: `customer-${i}`,
    late: true,
  }));
  await lake.write(late);
  await lake.stream(t);
  const free = await watched(lake, Number.MAX_SAFE_INTEGER);
  const [planned] = await reconcile(free.lake, { dryRun: true });
  assert.ok(free.evidenceBytes > free.rowsBytes);
  assert.equal(free.parts, 1);

  const tight = await watched(lake, free.rowsBytes);
  assert.deepEqual(await reconcile(tight.lake, { dryRun: true }), [planned]);
  assert.ok(tight.parts > 1, `${tight.parts} parts`);
});

/** The lake with its batch thread in this one, and what that thread says of itself. */
async function watched(lake: SilverLake, goldStateBytes: number) {
  const seen = { parts: 0, rowsBytes: 0, evidenceBytes: 0 };
  const threads: ThreadHost = {
    start(_module, data, onMessage) {
      const thread = createBatchThreadApi(data as BatchThreadData);
      const api = {
        ...thread,
        begin: (call: Parameters<typeof thread.begin>[0]) => {
          seen.parts += 1;
          thread.begin(call);
        },
        add: (call: Parameters<typeof thread.add>[0]) => {
          const added = thread.add(call);
          seen.rowsBytes = Math.max(seen.rowsBytes, added.residentBytes);
          return added;
        },
        addEvidence: (call: Parameters<typeof thread.addEvidence>[0]) => {
          const bytes = thread.addEvidence(call);
          seen.evidenceBytes = Math.max(seen.evidenceBytes, bytes);
          return bytes;
        },
      };
      return {
        post: (call) => void answerCall(api, call as Call).then(({ reply }) => onMessage(reply)),
        terminate: async () => {},
      };
    },
  };
  const { delta, config, ...tables } = await lake.elsewhere();
  const own: ReconcileLake = {
    ...tables,
    config: { ...config, limits: { ...config.limits, goldStateBytes } },
    delta: { ...delta, ambient: { ...delta.ambient, threads } },
  };
  return Object.assign(seen, { lake: own });
}
