/**
 * What is known of a pipeline at one moment, read from its parts side by side. A part that does not
 * answer leaves its last answer and is named; nothing here waits for it.
 *
 * PF1 Progress comes from the Delta logs (P1). Who works on what, and in which state, are hints.
 */
import type { Clock } from '../../ambient.ts';
import type { PipelineError } from '../../errors.ts';
import type { Ports } from '../../engine/node.ts';
import type { PipelineTables } from '../../engine/tables.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import type { DeltaEnvironment, DeltaTable } from '../../storage/delta/delta-table.ts';
import type { Snapshot } from '../../storage/delta/snapshot.ts';
import { LakeCatalog } from '../../storage/query/lake-catalog.ts';
import type { QueueCounts } from '../../storage/queue/work-queue.ts';
import type { TopicInfo } from '../../storage/source/event-source.ts';
import type { StateStore } from '../../storage/state/state-store.ts';
import { type Control, readControl, readPinned, readPlacement } from '../control.ts';
import { type Member, readMembers } from '../membership.ts';
import type { Placement } from '../placement.ts';
import { parseUnit, type Unit } from '../units.ts';
import { type LedgerFacts, LedgerWatch } from './ledger-watch.ts';
import { type Answer, StandingQuestion } from './standing-question.ts';

/** What the state store says of the members and their units. */
export interface Coordination {
  readonly members: readonly Member[];
  readonly placement: Placement;
  readonly pinned: Placement;
  readonly control: Control;
  /** The supervisor that leads. */
  readonly leader: string | undefined;
  /** What workers and writers last said of their units. */
  readonly hints: ReadonlyMap<Unit, Readonly<Record<string, string>>>;
}

/** A table at its newest version. */
export interface TableFacts {
  readonly table: DeltaTable;
  readonly snapshot: Snapshot;
  readonly rows: number | undefined;
}

export interface PipelineFacts {
  readonly readAtMs: number;
  readonly topic: TopicInfo;
  readonly coordination: Coordination;
  /** Exclusive ends of the source, by partition. */
  readonly ends: ReadonlyMap<number, bigint>;
  readonly bronze: TableFacts;
  readonly deadLetter: TableFacts;
  readonly silver: TableFacts;
  readonly gold: readonly TableFacts[];
  readonly queues: readonly QueueCounts[];
  /** undefined until it was proved once. */
  readonly ledger: LedgerFacts | undefined;
  /** Parts that did not answer. */
  readonly silent: readonly { readonly part: Part; readonly error: PipelineError }[];
}

export type Part = 'state store' | 'source' | 'lake' | 'queues' | 'ledger';

export interface FactsReaderOptions {
  readonly config: PipelineConfig;
  readonly ports: Pick<Ports, 'source' | 'state' | 'queue'>;
  readonly tables: PipelineTables;
  readonly delta: DeltaEnvironment;
  /** Its newest shape. */
  readonly topic: () => TopicInfo;
  readonly clock: Clock;
}

/** The lease under which one supervisor leads. */
const LEADER_LEASE = 'supervisor';
const QUEUES = ['silver', 'gold'];
/** How long a part may take before its last answer has to do. */
const PATIENCE_MS = 3_000;
/** The same for a proof, which nothing waits for. */
const PROOF_PATIENCE_MS = 60_000;
/** Ends of one partition more cost a request more: with many, they are read less often. */
const END_COST_MS = 50;
/** Counting rows costs the files: beyond this many it is done less often. */
const CHEAP_FILES_MAX = 5_000;
const COSTLY_ROWS_EVERY_MS = 30_000;

const NO_COORDINATION: Coordination = {
  members: [],
  placement: new Map(),
  pinned: new Map(),
  control: { paused: false, draining: new Set() },
  leader: undefined,
  hints: new Map(),
};

/** Reads facts, one reading at a time. */
export class FactsReader {
  readonly #options: FactsReaderOptions;
  readonly #coordination: StandingQuestion<Coordination>;
  readonly #ends: StandingQuestion<Map<number, bigint>>;
  readonly #lake: StandingQuestion<void>;
  readonly #queues: StandingQuestion<readonly QueueCounts[]>;
  readonly #ledger: StandingQuestion<LedgerFacts>;
  #ledgerAnswer: Answer<LedgerFacts> = { value: undefined, failure: undefined };
  readonly #rows = new Map<string, { version: number; atMs: number; rows: number | undefined }>();
  #endsReadMs = Number.NEGATIVE_INFINITY;

  constructor(options: FactsReaderOptions) {
    this.#options = options;
    const { clock, ports, tables } = options;
    this.#coordination = new StandingQuestion(clock, () => readCoordination(ports.state));
    this.#ends = new StandingQuestion(clock, () => this.#readEnds());
    this.#lake = new StandingQuestion(clock, async () => {
      await Promise.all(allTables(tables).map((table) => table.refresh()));
    });
    this.#queues = new StandingQuestion(clock, () =>
      Promise.all(QUEUES.map((name) => ports.queue.counts(name))),
    );
    // The archive is there once retention has moved something.
    const catalog = new LakeCatalog(options.delta);
    const byRoot = new Map(allTables(tables).map((table) => [table.root, table]));
    const open = async (root: string): Promise<DeltaTable | undefined> =>
      byRoot.get(root) ?? catalog.table(root);
    const watch = new LedgerWatch(options.config, open, clock);
    this.#ledger = new StandingQuestion(clock, () => watch.look());
  }

  /** Never rejects: what does not answer is in `silent`. */
  async read(): Promise<PipelineFacts> {
    const { clock, tables, topic } = this.#options;
    this.#proveLedger();
    const [coordination, ends, lake, queues] = await Promise.all([
      this.#coordination.ask(PATIENCE_MS),
      this.#ends.ask(PATIENCE_MS),
      this.#lake.ask(PATIENCE_MS),
      this.#queues.ask(PATIENCE_MS),
    ]);
    const silent = (
      [
        ['state store', coordination],
        ['source', ends],
        ['lake', lake],
        ['queues', queues],
        ['ledger', this.#ledgerAnswer],
      ] as const
    ).flatMap(([part, { failure }]) => (failure ? [{ part, error: failure }] : []));
    return {
      readAtMs: Math.round(clock.nowMs()),
      topic: topic(),
      coordination: coordination.value ?? NO_COORDINATION,
      ends: ends.value ?? new Map(),
      bronze: this.#tableFacts(tables.bronze),
      deadLetter: this.#tableFacts(tables.deadLetter),
      silver: this.#tableFacts(tables.silver),
      gold: [...tables.gold.values()].map((table) => this.#tableFacts(table)),
      queues: queues.value ?? [],
      ledger: this.#ledgerAnswer.value,
      silent,
    };
  }

  /** Nothing waits for it: the next reading shows it. */
  #proveLedger(): void {
    void this.#ledger.ask(PROOF_PATIENCE_MS).then((answer) => {
      this.#ledgerAnswer = answer;
    });
  }

  async #readEnds(): Promise<Map<number, bigint>> {
    const { clock, ports, topic } = this.#options;
    const { partitionCount } = topic();
    const nowMs = clock.monotonicMs();
    const known = this.#ends.last;
    const isFresh = nowMs - this.#endsReadMs < partitionCount * END_COST_MS;
    if (known && isFresh && known.size === partitionCount) return known;
    const ends = await Promise.all(
      Array.from({ length: partitionCount }, async (_, partition): Promise<[number, bigint]> => {
        return [partition, (await ports.source.offsets(partition)).latest];
      }),
    );
    this.#endsReadMs = nowMs;
    return new Map(ends);
  }

  #tableFacts(table: DeltaTable): TableFacts {
    const { snapshot } = table;
    const nowMs = this.#options.clock.monotonicMs();
    const known = this.#rows.get(table.root);
    const isRecent =
      known !== undefined &&
      (known.version === snapshot.version ||
        (snapshot.fileCount > CHEAP_FILES_MAX && nowMs - known.atMs < COSTLY_ROWS_EVERY_MS));
    if (isRecent) return { table, snapshot, rows: known.rows };
    const rows = snapshot.numRecords();
    this.#rows.set(table.root, { version: snapshot.version, atMs: nowMs, rows });
    return { table, snapshot, rows };
  }
}

/** In the order of the layers. */
export function allTables(tables: PipelineTables): readonly DeltaTable[] {
  return [tables.bronze, tables.deadLetter, tables.silver, ...tables.gold.values()];
}

async function readCoordination(state: StateStore): Promise<Coordination> {
  const [{ alive }, placement, pinned, control, leader, partitionKeys] = await Promise.all([
    readMembers(state),
    readPlacement(state),
    readPinned(state),
    readControl(state),
    state.leaseHolder(LEADER_LEASE),
    state.keys('partition:'),
  ]);
  const hints = new Map<Unit, Readonly<Record<string, string>>>();
  const writers = [...placement.keys()].filter((unit) => !unit.startsWith('partition:'));
  await Promise.all([
    ...partitionKeys.map(async (key) => {
      const unit = parseUnit(key)?.unit;
      if (unit) hints.set(unit, await state.getHash(key));
    }),
    ...writers.map(async (unit) => hints.set(unit, await state.getHash(`writer:${unit}`))),
  ]);
  return { members: alive, placement, pinned, control, leader: leader?.owner, hints };
}
