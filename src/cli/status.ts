/**
 * `tidemark status`: how far each partition is, the tables and the queues. Progress comes from the
 * Delta logs (P1); who works on what is a hint and may be unknown. Works whether a run is up or not.
 */
import { asPipelineError } from '../errors.ts';
import { instantText } from '../pipeline/generator/instant-text.ts';
import type { PipelineConfig } from '../pipeline/pipeline-config.ts';
import { parseBronzeAppId, tableRoots, watermarkAppId } from '../pipeline/progress.ts';
import type { Snapshot } from '../storage/delta/snapshot.ts';
import { nameOfRoot } from '../storage/query/lake-catalog.ts';
import type { QueueCounts } from '../storage/queue/work-queue.ts';
import type { EventSource } from '../storage/source/event-source.ts';
import type { StateStore } from '../storage/state/state-store.ts';
import { MEMBER_TTL_MS, memberLease, readMembers } from '../supervisor/membership.ts';
import { untilAvailable } from './availability.ts';
import { defineCommand, EXIT, type ExitCode, exitCodeOf } from './command.ts';
import type { CommandContext } from './context.ts';
import { type OpenLake, withLake } from './lake.ts';
import { withNumbers } from './numbers.ts';
import type { Style } from './terminal.ts';
import { byteText, groupDigits, textTable } from './text-table.ts';

interface PartitionStatus {
  readonly topic: string;
  readonly partition: number;
  readonly worker: string | null;
  /** Exclusive: bronze has everything below. */
  readonly nextOffset: bigint | null;
  /** Exclusive: what the source has; null when the source does not answer. */
  readonly endOffset: bigint | null;
  readonly lag: bigint | null;
  /** Event time up to which silver has seen the partition, RFC 3339. */
  readonly watermark: string | null;
  readonly state: string;
  /** Why it stopped, when its state is failed (P8). */
  readonly reason: string | null;
}

/** A silver or gold writer that is at work, or stopped on a living worker. */
interface WriterStatus {
  readonly unit: string;
  readonly worker: string;
  readonly state: string;
  readonly reason: string | null;
}

interface TableStatus {
  readonly name: string;
  readonly version: number;
  /** null when a file has no statistics. */
  readonly rows: number | null;
  readonly files: number;
  readonly bytes: number;
}

interface Status {
  readonly partitions: readonly PartitionStatus[];
  readonly writers: readonly WriterStatus[];
  readonly tables: readonly TableStatus[];
  readonly queues: readonly QueueCounts[];
  /** Services that did not answer, and so what is unknown. */
  readonly remarks: readonly string[];
}

/** A status is a glance: a service that is away is said to be away, not waited for. */
const PATIENCE_MS = 3_000;
const QUEUES = ['silver', 'gold'];

export const statusCommand = defineCommand({
  name: 'status',
  summary: 'show progress, lag, tables and queues',
  options: {},
  example: 'tidemark status -c pipeline.yaml',
  run: (context) =>
    withLake(context, async (lake) => {
      const { status, exitCode } = await readStatus(context, lake);
      await context.terminal.result(withNumbers(status), (style) => render(status, style));
      return exitCode;
    }),
});

/** What is known, and the exit code that the first service which did not answer asks for. */
async function readStatus(
  context: CommandContext,
  lake: OpenLake,
): Promise<{ readonly status: Status; readonly exitCode: ExitCode }> {
  const { config } = lake;
  const roots = tableRoots(config);
  const snapshots = new Map<string, Snapshot>();
  for (const root of [roots.bronze, roots.deadLetter, roots.silver, ...roots.gold.values()]) {
    const table = await lake.catalog.table(root);
    if (table) snapshots.set(root, await table.refresh());
  }
  const { adapters } = context;
  const [ends, hints, queues] = await Promise.all([
    ask(context, 'source', () => adapters.openSource(config), readEnds, new Map<number, bigint>()),
    ask(
      context,
      'state',
      () => adapters.openState(config, { readOnly: true }),
      (state) => readHints(state, context.ambient.clock.nowMs()),
      new Map<string, Hint>(),
    ),
    ask(
      context,
      'queue',
      () => adapters.openQueue(config),
      (queue) => Promise.all(QUEUES.map((name) => queue.counts(name))),
      [],
    ),
  ]);
  const failures = [ends, hints, queues].flatMap(({ failure }) => failure ?? []);
  const status = {
    partitions: partitionsOf(config, {
      ends: ends.said,
      hints: hints.said,
      bronze: snapshots.get(roots.bronze),
      silver: snapshots.get(roots.silver),
    }),
    writers: writersOf(hints.said),
    tables: [...snapshots].map(([root, snapshot]) => ({
      name: nameOfRoot(root),
      version: snapshot.version,
      rows: snapshot.numRecords() ?? null,
      files: snapshot.fileCount,
      bytes: snapshot.totalBytes,
    })),
    queues: queues.said,
    remarks: failures.map(({ remark }) => remark),
  };
  return { status, exitCode: failures[0]?.exitCode ?? EXIT.ok };
}

/** What one service says; `said` is what is shown when it does not answer. */
interface Answer<T> {
  readonly said: T;
  readonly failure: { readonly remark: string; readonly exitCode: ExitCode } | undefined;
}

async function ask<Port extends { close(): Promise<void> }, T>(
  context: CommandContext,
  what: string,
  open: () => Promise<Port>,
  use: (port: Port) => Promise<T>,
  otherwise: T,
): Promise<Answer<T>> {
  try {
    const port = await untilAvailable(context, open, PATIENCE_MS);
    try {
      const said = await untilAvailable(context, () => use(port), PATIENCE_MS);
      return { said, failure: undefined };
    } finally {
      await port.close();
    }
  } catch (thrown) {
    const error = asPipelineError(thrown);
    const failure = { remark: `${what}: ${error.message}`, exitCode: exitCodeOf(error) };
    return { said: otherwise, failure };
  }
}

async function readEnds(source: EventSource): Promise<Map<number, bigint>> {
  const { partitionCount } = await source.describe();
  const partitions = Array.from({ length: partitionCount }, (_, partition) => partition);
  return new Map(
    await Promise.all(
      partitions.map(async (partition): Promise<[number, bigint]> => {
        return [partition, (await source.offsets(partition)).latest];
      }),
    ),
  );
}

interface Hint {
  readonly worker: string;
  readonly state: string;
  readonly reason: string | null;
}

const WRITER_PREFIX = 'writer:';

/** By key, hints of workers that are alive; what a dead one left behind says nothing. */
async function readHints(state: StateStore, nowMs: number): Promise<Map<string, Hint>> {
  const alive = await livingMembers(state, nowMs);
  const hints = new Map<string, Hint>();
  for (const key of [...(await state.keys('partition:')), ...(await state.keys(WRITER_PREFIX))]) {
    const fields = await state.getHash(key);
    const worker = fields['worker'];
    if (worker === undefined || !alive.has(worker)) continue;
    const said = fields['state'] ?? 'running';
    hints.set(key, {
      worker,
      state: said,
      // A reason stays in the hint when the unit runs again.
      reason: said === 'failed' ? (fields['reason'] ?? 'unknown') : null,
    });
  }
  return hints;
}

function writersOf(hints: ReadonlyMap<string, Hint>): WriterStatus[] {
  return [...hints]
    .filter(([key]) => key.startsWith(WRITER_PREFIX))
    .map(([key, hint]) => ({ unit: key.slice(WRITER_PREFIX.length), ...hint }))
    .sort((a, b) => (a.unit < b.unit ? 1 : -1));
}

/** By lease, or by a fresh heartbeat: embedded state shows others no leases. */
async function livingMembers(state: StateStore, nowMs: number): Promise<Set<string>> {
  const { alive, dead } = await readMembers(state);
  const living = new Set(alive.map(({ memberId }) => memberId));
  for (const memberId of dead) {
    const { heartbeatMs = '0' } = await state.getHash(memberLease(memberId));
    if (nowMs - Number(heartbeatMs) < MEMBER_TTL_MS) living.add(memberId);
  }
  return living;
}

function partitionsOf(
  config: PipelineConfig,
  known: {
    readonly ends: ReadonlyMap<number, bigint>;
    readonly hints: ReadonlyMap<string, Hint>;
    readonly bronze: Snapshot | undefined;
    readonly silver: Snapshot | undefined;
  },
): PartitionStatus[] {
  const { ends, hints, bronze, silver } = known;
  const { topic } = config.source;
  const progress = new Map<number, { readonly topicId: string; readonly next: bigint }>();
  for (const [appId, next] of bronze?.progressEntries() ?? []) {
    const of = parseBronzeAppId(config.name, topic, appId);
    if (of) progress.set(of.partition, { topicId: of.topicId, next });
  }
  const partitions = new Set([...ends.keys(), ...progress.keys()]);
  return [...partitions]
    .sort((a, b) => a - b)
    .map((partition): PartitionStatus => {
      const done = progress.get(partition);
      const end = ends.get(partition);
      const micros = done && silver?.progress(watermarkAppId(config.name, done.topicId, partition));
      const hint = hints.get(`partition:${partition}`);
      return {
        topic,
        partition,
        worker: hint?.worker ?? null,
        nextOffset: done?.next ?? null,
        endOffset: end ?? null,
        lag: end === undefined ? null : end - (done?.next ?? 0n),
        watermark: micros === undefined ? null : instantText(Number(micros / 1000n)),
        state: hint?.state ?? 'not running',
        reason: hint?.reason ?? null,
      };
    });
}

function render(status: Status, style: Style): string {
  const right = 'right' as const;
  const orUnknown = (value: bigint | number | null): string =>
    value === null ? '-' : groupDigits(value);
  const partitions = textTable(
    [
      { title: 'topic' },
      { title: 'partition', align: right },
      { title: 'next', align: right },
      { title: 'end', align: right },
      { title: 'lag', align: right },
      { title: 'watermark' },
      { title: 'state' },
      { title: 'worker' },
    ],
    status.partitions.map((p) => [
      p.topic,
      String(p.partition),
      orUnknown(p.nextOffset),
      orUnknown(p.endOffset),
      orUnknown(p.lag),
      p.watermark ?? '-',
      p.state,
      p.worker ?? '-',
    ]),
    style.bold,
  );
  const tables = textTable(
    [
      { title: 'table' },
      { title: 'version', align: right },
      { title: 'rows', align: right },
      { title: 'files', align: right },
      { title: 'size', align: right },
    ],
    status.tables.map((t) => [
      t.name,
      String(t.version),
      orUnknown(t.rows),
      groupDigits(t.files),
      byteText(t.bytes),
    ]),
    style.bold,
  );
  const queues = textTable(
    [
      { title: 'queue' },
      { title: 'waiting', align: right },
      { title: 'active', align: right },
      { title: 'delayed', align: right },
      { title: 'failed', align: right },
    ],
    status.queues.map((q) => [
      q.name,
      groupDigits(q.waiting),
      groupDigits(q.active),
      groupDigits(q.delayed),
      groupDigits(q.failed),
    ]),
    style.bold,
  );
  const stopped = [
    ...status.partitions.map((p) => ({ unit: `partition:${p.partition}`, reason: p.reason })),
    ...status.writers,
  ].flatMap(({ unit, reason }) => (reason === null ? [] : [`${unit} stopped: ${reason}`]));
  const remarks = [...stopped, ...status.remarks].map((remark) => style.bad(remark));
  return [partitions, '', tables, '', queues, ...(remarks.length > 0 ? ['', ...remarks] : [])].join(
    '\n',
  );
}
