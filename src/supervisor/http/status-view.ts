/**
 * Facts as the API shows them, and what an operator should know of them. Pure.
 */
import { instantText } from '../../pipeline/generator/instant-text.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import {
  bronzeAppId,
  bronzeVersionsIn,
  goldAppId,
  watermarkAppId,
} from '../../pipeline/progress.ts';
import { nameOfRoot } from '../../storage/query/lake-catalog.ts';
import { parseUnit, type Unit } from '../units.ts';
import type {
  Finding,
  HopStatus,
  PartitionStatus,
  Status,
  TableStatus,
  Totals,
  WriterStatus,
} from './api-schemas.ts';
import type { PipelineFacts, TableFacts } from './pipeline-facts.ts';

/** How far a stage is; both ends are inclusive versions, or offsets summed over partitions. */
export interface HopProgress {
  readonly covered: bigint;
  readonly end: bigint;
}

/** What facts alone do not say: it comes from looking at several of them. */
export interface Observed {
  readonly lagSecondsOf: ReadonlyMap<number, number>;
  readonly hopLagSeconds: Readonly<Record<HopStatus['stage'], number>>;
  readonly totals: Totals;
  readonly rates: Status['rates'];
}

/** A hop that is behind for longer than this is worth a warning. */
const BEHIND_WARNING_SECONDS = 60;
/** Violations named among the findings. */
const VIOLATIONS_MAX = 5;

/** Next offset of bronze in each partition that has any, from its log (P1). */
export function nextOffsets(config: PipelineConfig, facts: PipelineFacts): Map<number, bigint> {
  const { topic, topicId, partitionCount } = facts.topic;
  const next = new Map<number, bigint>();
  for (let partition = 0; partition < partitionCount; partition += 1) {
    const appId = bronzeAppId(config.name, topic, topicId, partition);
    const offset = facts.bronze.snapshot.progress(appId);
    if (offset !== undefined) next.set(partition, offset);
  }
  return next;
}

/** Versions that silver and gold cover, and the heads of what feeds them. */
export function stageProgress(
  config: PipelineConfig,
  facts: PipelineFacts,
): Readonly<Record<'silver' | 'gold', HopProgress>> {
  const bronze = facts.bronze.snapshot;
  const silver = facts.silver.snapshot;
  const lowest = (versions: readonly bigint[]): bigint =>
    versions.reduce((least, version) => (version < least ? version : least));
  const goldId = goldAppId(config.name, silver.tableId);
  const aggregates = facts.gold.map(({ snapshot }) => snapshot.progress(goldId));
  return {
    silver: {
      covered: BigInt(Math.min(...bronzeVersionsIn(silver, config, bronze.tableId))),
      end: BigInt(bronze.version),
    },
    gold: { covered: lowest(aggregates.map((v) => v ?? 0n)), end: BigInt(silver.version) },
  };
}

/** The whole pipeline as `GET /v1/status` shows it. */
export function statusOf(
  config: PipelineConfig,
  supervisor: { readonly id: string; readonly isLeading: boolean },
  facts: PipelineFacts,
  observed: Observed,
): Status {
  const { coordination } = facts;
  const partitions = partitionStatuses(config, facts, observed.lagSecondsOf);
  const writers = writerStatuses(facts);
  const stages = stageProgress(config, facts);
  const behind = partitions.reduce((sum, { lag }) => sum + BigInt(lag ?? 0), 0n);
  const hops: HopStatus[] = [
    { stage: 'bronze', behind: exact(behind), lagSeconds: observed.hopLagSeconds.bronze },
    ...(['silver', 'gold'] as const).map((stage) => ({
      stage,
      behind: exact(nonNegative(stages[stage].end - stages[stage].covered)),
      lagSeconds: observed.hopLagSeconds[stage],
    })),
  ];
  const { members, control, leader } = coordination;
  const isDraining = (memberId: string): boolean => control.draining.has(memberId);
  const shown = {
    pipeline: config.name,
    readAt: instantText(facts.readAtMs),
    isPaused: control.paused,
    supervisor: { ...supervisor, leader: leader ?? null },
    partitions,
    writers,
    hops,
    tables: tableStatuses(facts),
    queues: facts.queues.map((queue) => ({ ...queue })),
    ledger: ledgerStatus(facts),
    totals: observed.totals,
    rates: observed.rates,
    memory: {
      processBytes: processBytes(members),
      inFlightBytes: members.reduce((sum, { counts }) => sum + (counts['inFlightBytes'] ?? 0), 0),
    },
    workers: {
      alive: members.length,
      draining: members.filter((m) => m.draining || isDraining(m.memberId)).length,
    },
  };
  const findings = findingsOf(shown, facts);
  return { ...shown, findings, health: healthOf(findings, shown.isPaused) };
}

/** Memory of processes; members that share one count once. */
function processBytes(members: PipelineFacts['coordination']['members']): number {
  const byProcess = new Map(
    members.map(({ host, pid, memoryBytes }) => [`${host}/${pid}`, memoryBytes]),
  );
  return [...byProcess.values()].reduce((sum, bytes) => sum + bytes, 0);
}

function partitionStatuses(
  config: PipelineConfig,
  facts: PipelineFacts,
  lagSecondsOf: ReadonlyMap<number, number>,
): PartitionStatus[] {
  const { topic, coordination, ends, silver } = facts;
  const alive = new Set(coordination.members.map(({ memberId }) => memberId));
  const next = nextOffsets(config, facts);
  return Array.from({ length: topic.partitionCount }, (_, partition): PartitionStatus => {
    const hint = coordination.hints.get(`partition:${partition}`) ?? {};
    const worker = alive.has(hint['worker'] ?? '') ? hint['worker']! : null;
    const hasFailed = hint['state'] === 'failed';
    const placed = coordination.placement.get(`partition:${partition}`);
    const micros = silver.snapshot.progress(watermarkAppId(config.name, topic.topicId, partition));
    const nextOffset = next.get(partition);
    const endOffset = ends.get(partition);
    const lag = endOffset === undefined ? undefined : nonNegative(endOffset - (nextOffset ?? 0n));
    return {
      topic: topic.topic,
      partition,
      worker,
      nextOffset: nextOffset === undefined ? null : exact(nextOffset),
      endOffset: endOffset === undefined ? null : exact(endOffset),
      lag: lag === undefined ? null : exact(lag),
      lagSeconds: lag === undefined ? null : (lagSecondsOf.get(partition) ?? 0),
      watermark: micros === undefined ? null : instantOrNull(Number(micros / 1000n)),
      state: hasFailed ? 'failed' : partitionState(hint['state'], worker, alive.has(placed ?? '')),
      reason: hasFailed ? (hint['reason'] ?? 'unknown') : null,
    };
  });
}

function partitionState(
  said: string | undefined,
  worker: string | null,
  isPlaced: boolean,
): PartitionStatus['state'] {
  if (worker === null) return isPlaced ? 'starting' : 'not running';
  switch (said) {
    case 'recovering':
    case 'paused':
    case 'draining':
    case 'drained':
      return said;
    default:
      return 'running';
  }
}

function writerStatuses(facts: PipelineFacts): WriterStatus[] {
  const { placement, members, hints } = facts.coordination;
  const alive = new Set(members.map(({ memberId }) => memberId));
  return [...placement]
    .filter(([unit]) => parseUnit(unit)?.kind !== 'partition')
    .sort(([a], [b]) => (a < b ? 1 : -1))
    .map(([unit, placed]): WriterStatus => {
      const hint = hints.get(unit) ?? {};
      const worker = alive.has(placed) ? placed : null;
      if (hint['state'] === 'failed') {
        return { unit, worker, state: 'failed', reason: hint['reason'] ?? 'unknown' };
      }
      return { unit, worker, state: worker === null ? 'not running' : 'running', reason: null };
    });
}

/** Every table, in the order of the layers. */
export function tableStatuses(facts: PipelineFacts): TableStatus[] {
  const { bronze, deadLetter, silver, gold } = facts;
  return [bronze, deadLetter, silver, ...gold].map(({ table, snapshot, rows }: TableFacts) => ({
    name: nameOfRoot(table.root),
    version: snapshot.version,
    rows: rows ?? null,
    files: snapshot.fileCount,
    bytes: snapshot.totalBytes,
    committedAt: instantText(Math.round(snapshot.timestampMs)),
  }));
}

function ledgerStatus({ ledger }: PipelineFacts): Status['ledger'] {
  if (!ledger) return null;
  const { checkedAtMs, stages, violations } = ledger;
  return {
    checkedAt: instantText(checkedAtMs),
    ok: violations.length === 0,
    records: exact(stages.bronzeRows),
    events: exact(stages.silverRows),
    duplicates: exact(stages.duplicates),
    conflicts: exact(stages.conflicts),
    deadLetters: exact(stages.deadLetters),
  };
}

type Unjudged = Omit<Status, 'findings' | 'health'>;

/** What is not as it should be, worst first. */
function findingsOf(status: Unjudged, facts: PipelineFacts): Finding[] {
  const findings: Finding[] = [];
  const add = (severity: Finding['severity'], subject: string, message: string): void => {
    // Reasons of loud stops often begin with what stopped.
    const start = `${subject}: `;
    const said = message.startsWith(start) ? message.slice(start.length) : message;
    findings.push({ severity, subject, message: said });
  };
  for (const { partition, state, reason } of status.partitions) {
    if (state === 'failed') add('failed', `partition ${partition}`, reason ?? 'stopped');
  }
  for (const { unit, state, reason } of status.writers) {
    if (state === 'failed') add('failed', unit, reason ?? 'stopped');
  }
  for (const { kind, table, message } of facts.ledger?.violations.slice(0, VIOLATIONS_MAX) ?? []) {
    add('failed', `ledger of ${table}`, `${kind}: ${message}`);
  }
  const silent = new Map(facts.silent.map(({ part, error }) => [part, error]));
  const { members, placement, control } = facts.coordination;
  if (!silent.has('state store')) {
    const canWork = members.some(
      (m) => m.roles.includes('worker') && !m.draining && !control.draining.has(m.memberId),
    );
    if (!canWork) {
      add('failed', 'workers', 'No worker may take partitions; nothing new comes in.');
    }
    if (status.supervisor.leader === null) {
      add('warning', 'supervisor', 'No supervisor leads; units stay where they are.');
    }
    const homeless = status.partitions.filter((p) => !placement.has(unitOf(p.partition)));
    if (canWork && homeless.length > 0) {
      add('warning', 'placement', `${homeless.length} partitions wait for a worker.`);
    }
  }
  for (const [part, error] of silent) add('warning', part, `Does not answer: ${error.message}`);
  for (const { name, failed } of status.queues) {
    if (failed > 0) add('warning', `queue ${name}`, `${failed} jobs failed for good.`);
  }
  for (const { stage, lagSeconds } of status.hops) {
    if (lagSeconds > BEHIND_WARNING_SECONDS && !(status.isPaused && stage === 'bronze')) {
      add('warning', stage, `Behind for ${Math.round(lagSeconds)} s.`);
    }
  }
  if (status.isPaused) add('notice', 'pipeline', 'Paused by an operator; no new records come in.');
  if (status.workers.draining > 0) {
    add('notice', 'workers', `${status.workers.draining} are drained or draining.`);
  }
  return findings;
}

function unitOf(partition: number): Unit {
  return `partition:${partition}`;
}

function healthOf(findings: readonly Finding[], isPaused: boolean): Status['health'] {
  if (findings.some(({ severity }) => severity === 'failed')) return 'failed';
  if (findings.some(({ severity }) => severity === 'warning')) return 'warning';
  return isPaused ? 'paused' : 'ok';
}

function nonNegative(value: bigint): bigint {
  return value < 0n ? 0n : value;
}

/** A JSON number where that is exact, else its digits. */
export function exact(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}

const YEAR_10000_MS = 253_402_300_800_000;
const YEAR_0_MS = -62_167_219_200_000;

/** Events may carry times that RFC 3339 cannot write. */
function instantOrNull(ms: number): string | null {
  return ms >= YEAR_0_MS && ms < YEAR_10000_MS ? instantText(ms) : null;
}
