/**
 * Derives silver rows and dead letters from bronze rows: decode, check, deduplicate, sort by date.
 * Pure but for the dedup index it is given. Counts and watermarks: V1 and V5 of derivation.
 *
 * V2 Rows are decided in the order (bronze version, partition, offset); neither the cut into files,
 *    calls of derive, nor sub-batches changes a decision (P9). The first row of an id stays.
 * V3 A row is decided by its bytes, its Kafka timestamp and the rows before it; never by a clock.
 * V4 No object or string is made for a valid event.
 * V6 An event that came under another declared schema is the same event: a conflict is one only if
 *    the payload differs under every schema.
 */
import { assert } from '../../errors.ts';
import { isNullAt, type Vector } from '../columns.ts';
import type { EventConfig, LateConfig } from '../pipeline-config.ts';
import { primitive, type StructType } from '../types.ts';
import { dateOf, microsBetween } from './arrival.ts';
import { type BronzeInput, BronzeRows, orderRows } from './bronze-rows.ts';
import type { DeadLetter } from './dead-letters.ts';
import { type DedupIndex, ID_CONFLICT, ID_DUPLICATE, ID_NEW } from './dedup-index.ts';
import { Derivation, newCounts, type SilverCounts, type SilverResult } from './derivation.ts';
import { EventStage } from './event-stage.ts';
import { EVENT_OK } from './event-tokenizer.ts';
import { bucketOfHash, bucketOfOffset, FINGERPRINT_WORDS } from './fingerprints.ts';
import { ListBuilder } from './growable-columns.ts';
import { BooleanBuilder, BytesBuilder, FixedBuilder } from './growable-scalars.ts';
import { hashStage, OtherPayloads } from './other-payloads.ts';
import { fieldError, refusalOfText, refusalWithoutText } from './refusal.ts';
import { FLAG_MISSING_ID } from './row-findings.ts';
import type { StagedColumn } from './silver-rows.ts';
import { silverFileSchema } from './tables.ts';

export type { SilverCounts, SilverResult };

export interface SilverOptions {
  readonly event: EventConfig;
  readonly late: LateConfig;
  /** Other schemas that rows of the table may have been derived under (V6). */
  readonly otherEvents?: readonly EventConfig[];
  /** Rows decoded at once; changes speed and memory, never a result. */
  readonly subBatchRows?: number;
}

/** The dedup buckets that a deriver serves. */
export interface BucketSelection {
  /** All buckets of the table. */
  readonly count: number;
  /** Undefined: all of them. */
  readonly owned: ReadonlySet<number> | undefined;
}

const SUB_BATCH_ROWS = 2048;
/** A sub-batch ends here too, so that large values do not pile up in the stage. */
const SUB_BATCH_BYTES = 4 * 1024 * 1024;
const CONFLICT = 'conflicting_duplicate';

/** Derives; one call at a time. */
export class SilverDeriver {
  readonly #event: EventConfig;
  readonly #late: LateConfig;
  readonly #index: DedupIndex;
  readonly #rowsMax: number;
  readonly #schema: StructType;
  readonly #stage: EventStage;
  readonly #rescued = new BytesBuilder(primitive('string'));
  readonly #flagTexts = new BytesBuilder(primitive('string'));
  readonly #flags: ListBuilder;
  readonly #lateRows = new BooleanBuilder(primitive('boolean'));
  readonly #delays = new FixedBuilder(primitive('double'));
  readonly #versions = new FixedBuilder(primitive('integer'));
  /** By slot: bronze row, event date, whether in the future. */
  readonly #sourceRows: Int32Array;
  readonly #dates: Int32Array;
  readonly #future: Uint8Array;
  /** Slots whose rows are valid, in order, with their bronze rows, and what the index says of each. */
  readonly #valid: Int32Array;
  readonly #validRows: Int32Array;
  readonly #verdicts: Uint8Array;
  readonly #lookups: Uint32Array;
  readonly #otherPayloads: OtherPayloads;
  #busy = false;

  /** @throws PipelineError invalid when the event's declaration cannot be used */
  constructor(options: SilverOptions, index: DedupIndex) {
    const rowsMax = options.subBatchRows ?? SUB_BATCH_ROWS;
    this.#event = options.event;
    this.#late = options.late;
    this.#index = index;
    this.#rowsMax = rowsMax;
    this.#schema = silverFileSchema(options.event);
    this.#stage = new EventStage(options.event, rowsMax);
    const flagsType = this.#schema.fields.find((f) => f.name === '_quality_flags')!.type;
    this.#flags = new ListBuilder(flagsType, this.#flagTexts);
    this.#sourceRows = new Int32Array(rowsMax);
    this.#dates = new Int32Array(rowsMax);
    this.#future = new Uint8Array(rowsMax);
    this.#valid = new Int32Array(rowsMax);
    this.#validRows = new Int32Array(rowsMax);
    this.#verdicts = new Uint8Array(rowsMax);
    this.#lookups = new Uint32Array(rowsMax * FINGERPRINT_WORDS);
    this.#otherPayloads = new OtherPayloads(options.otherEvents ?? []);
  }

  /**
   * Derives the rows of `inputs`, whole bronze versions that come after those derived before.
   * @throws PipelineError from the index; the caller then throws index and result away (D2)
   */
  async derive(
    inputs: readonly BronzeInput[],
    buckets: BucketSelection = { count: 1, owned: undefined },
  ): Promise<SilverResult> {
    assert(!this.#busy, 'one derivation at a time');
    this.#busy = true;
    try {
      const rowsExpected = inputs.reduce((rows, { batch }) => rows + batch.length, 0);
      const run = new Derivation(this.#schema, rowsExpected);
      for (const { input, rows } of orderRows(inputs.map((i) => new BronzeRows(i)))) {
        for (let from = 0; from < rows.length; ) {
          const to = this.#subBatchEnd(input, rows, from);
          await this.#deriveRows(input, rows.subarray(from, to), buckets, run);
          from = to;
        }
      }
      return run.finish();
    } finally {
      this.#busy = false;
    }
  }

  #subBatchEnd(input: BronzeRows, rows: Int32Array, from: number): number {
    const limit = Math.min(rows.length, from + this.#rowsMax);
    const offsets = input.rawValue.offsets!;
    let bytes = 0;
    let to = from;
    while (to < limit && bytes < SUB_BATCH_BYTES) {
      const row = rows[to++]!;
      bytes += offsets[row + 1]! - offsets[row]!;
    }
    return to;
  }

  async #deriveRows(
    input: BronzeRows,
    rows: Int32Array,
    buckets: BucketSelection,
    run: Derivation,
  ): Promise<void> {
    const letters = this.#readRows(input, rows, buckets);
    const slots = this.#stage.slots;
    const counts = newCounts();
    counts.bronzeRows = slots + letters.length;
    counts.deadLetters = letters.length;
    if (slots > 0) {
      this.#stage.decodeFields();
      this.#measureArrival(input);
      const valid = this.#collectValid(input, letters, counts);
      await this.#index.lookupOrInsert(this.#lookups, valid, this.#verdicts, this.#validRows);
      await this.#reconsider(input, valid);
      this.#settle(input, valid, letters, counts, run);
    }
    if (letters.length > 0) {
      letters.sort((a, b) => a.row - b.row);
      run.dead.add(input, letters);
      for (const { flags } of letters) for (const flag of flags) run.countFlag(flag);
    }
    run.addCounts(input.bronzeVersion, counts);
  }

  /** Fills the stage; returns the rows that are no events at all. */
  #readRows(input: BronzeRows, rows: Int32Array, buckets: BucketSelection): DeadLetter[] {
    const stage = this.#stage;
    const { rawValue } = input;
    const offsets = rawValue.offsets!;
    const letters: DeadLetter[] = [];
    const hasNulls = rawValue.nullCount > 0;
    stage.begin(rawValue.data!);
    for (const row of rows) {
      if (hasNulls && isNullAt(rawValue, row)) {
        if (!ownsOffset(input, row, buckets)) continue;
        const { flag, error } = refusalWithoutText(input, row);
        letters.push({ row, flags: [flag], error });
        continue;
      }
      const status = stage.read(offsets[row]!, offsets[row + 1]!);
      if (status !== EVENT_OK) {
        if (!ownsOffset(input, row, buckets)) continue;
        const { flag, error } = refusalOfText(status, stage.scanner, offsets[row]!);
        letters.push({ row, flags: [flag], error });
        continue;
      }
      const hasId = stage.takeId();
      const owned = hasId ? this.#ownsId(buckets) : ownsOffset(input, row, buckets);
      if (!owned) {
        stage.drop();
        continue;
      }
      this.#sourceRows[stage.slots] = row;
      stage.keep(hasId);
    }
    return letters;
  }

  /** Whether the id just taken is in an owned bucket. */
  #ownsId({ count, owned }: BucketSelection): boolean {
    if (owned === undefined) return true;
    const firstWord = this.#stage.fingerprints[this.#stage.slots * FINGERPRINT_WORDS]!;
    return owned.has(bucketOfHash(firstWord, count));
  }

  /** Lateness, delay, future and date of every slot; rows without a time get what does no harm. */
  #measureArrival(input: BronzeRows): void {
    const { slots, findings } = this.#stage;
    const times = this.#stage.timeWords();
    const arrivals = input.timestampWords;
    const lateMicros = this.#late.afterMs * 1000;
    const futureMicros = -this.#late.futureToleranceMs * 1000;
    this.#lateRows.reset();
    this.#delays.reset();
    this.#versions.reset();
    for (let slot = 0; slot < slots; slot++) {
      const low = times[2 * slot]!;
      const high = times[2 * slot + 1]!;
      const row = this.#sourceRows[slot]!;
      const delay = microsBetween(low, high, arrivals[2 * row]!, arrivals[2 * row + 1]!);
      this.#lateRows.append(delay >= lateMicros);
      this.#delays.appendDouble(delay / 1e6);
      this.#versions.append32(this.#event.schemaVersion);
      this.#dates[slot] = dateOf(low, high);
      const isFuture = delay < futureMicros;
      this.#future[slot] = isFuture ? 1 : 0;
      if (isFuture && findings.dead[slot] === 0) findings.noteFuture(slot);
    }
  }

  /** Lists the valid slots with their fingerprints; the others become dead letters. */
  #collectValid(input: BronzeRows, letters: DeadLetter[], counts: SilverCounts): number {
    const { slots, findings, fingerprints } = this.#stage;
    this.#rescued.reset();
    findings.writeRescued(this.#rescued, slots);
    this.#flags.reset();
    findings.writeFlags(this.#flags, this.#flagTexts, slots);
    const payload = hashStage(this.#stage, this.#rescued.view());
    let valid = 0;
    for (let slot = 0; slot < slots; slot++) {
      if (findings.dead[slot] !== 0) {
        letters.push(this.#describeDead(input, slot));
        counts.deadLetters++;
        continue;
      }
      const from = slot * FINGERPRINT_WORDS;
      fingerprints[from + 4] = payload[2 * slot]!;
      fingerprints[from + 5] = payload[2 * slot + 1]!;
      const to = valid * FINGERPRINT_WORDS;
      for (let i = 0; i < FINGERPRINT_WORDS; i++) this.#lookups[to + i] = fingerprints[from + i]!;
      this.#validRows[valid] = this.#sourceRows[slot]!;
      this.#valid[valid++] = slot;
    }
    return valid;
  }

  /**
   * V6: looks conflicts up again with their payload under other schemas, which inserts nothing; all
   * rows of a schema at once, for a lookup may be a round trip to the store.
   */
  async #reconsider(input: BronzeRows, valid: number): Promise<void> {
    for (const schema of this.#otherPayloads.schemas) {
      const conflicts: number[] = [];
      const words: number[] = [];
      for (let i = 0; i < valid; i++) {
        if (this.#verdicts[i] !== ID_CONFLICT) continue;
        const payload = this.#otherPayloads.of(schema, input, this.#sourceRows[this.#valid[i]!]!);
        if (payload === undefined) continue;
        const at = i * FINGERPRINT_WORDS;
        const id = this.#lookups.subarray(at, at + FINGERPRINT_WORDS - payload.length);
        conflicts.push(i);
        words.push(...id, ...payload);
      }
      if (conflicts.length === 0) continue;
      const verdicts = new Uint8Array(conflicts.length);
      await this.#index.lookupOrInsert(Uint32Array.from(words), conflicts.length, verdicts);
      for (const [j, i] of conflicts.entries()) {
        if (verdicts[j] === ID_DUPLICATE) this.#verdicts[i] = ID_DUPLICATE;
      }
    }
  }

  /** Acts on what the index said of each valid row. */
  #settle(
    input: BronzeRows,
    valid: number,
    letters: DeadLetter[],
    counts: SilverCounts,
    run: Derivation,
  ): void {
    const { findings } = this.#stage;
    const late = this.#lateRows.view().values as Uint8Array;
    for (let i = 0; i < valid; i++) {
      const slot = this.#valid[i]!;
      const row = this.#sourceRows[slot]!;
      const verdict = this.#verdicts[i]!;
      if (verdict === ID_CONFLICT) {
        counts.conflicts++;
        const error = `${this.#event.id} came before with other content; the first event stays.`;
        letters.push({ row, flags: [CONFLICT], error });
        continue;
      }
      if (this.#future[slot] === 0) {
        const times = this.#stage.timeWords();
        run.raiseWatermark(input.partitions[row]!, times[2 * slot]!, times[2 * slot + 1]!);
      }
      if (verdict !== ID_NEW) {
        counts.duplicates++;
        continue;
      }
      counts.silverRows++;
      counts.future += this.#future[slot]!;
      counts.late += (late[slot >> 3]! >> (slot & 7)) & 1;
      if (!findings.isClean(slot)) {
        counts.flagged++;
        for (const flag of findings.flagsOf(slot)) run.countFlag(findings.flagNames[flag]!);
      }
      run.silver.choose(this.#dates[slot]!, slot, row);
    }
    run.silver.append(this.#stagedColumns(input), this.#stage.fingerprints, counts.bronzeRows);
  }

  /** The columns of the file schema, in its order. */
  #stagedColumns(input: BronzeRows): StagedColumn[] {
    const bySlot = (vector: Vector): StagedColumn => ({ vector, by: 'slot' });
    const bySourceRow = (vector: Vector): StagedColumn => ({ vector, by: 'sourceRow' });
    return [
      ...this.#event.schema.fields.map((_, i) => bySlot(this.#stage.column(i))),
      bySourceRow(input.topic),
      bySourceRow(input.partition),
      bySourceRow(input.offset),
      bySourceRow(input.timestamp),
      bySlot(this.#lateRows.view()),
      bySlot(this.#delays.view()),
      bySlot(this.#flags.view()),
      bySlot(this.#rescued.view()),
      bySlot(this.#versions.view()),
    ];
  }

  #describeDead(input: BronzeRows, slot: number): DeadLetter {
    const { findings, tokens, fields, idField, timeField } = this.#stage;
    const row = this.#sourceRows[slot]!;
    const valueStart = input.rawValue.offsets![row]!;
    const flags = findings.flagsOf(slot).filter((flag) => findings.isDeadFlag(flag));
    const clauses = flags.map((flag) => {
      const required = findings.requiredFieldOf(flag);
      const field = required >= 0 ? required : flag === FLAG_MISSING_ID ? idField : timeField;
      const index = slot * fields.length + field;
      const { name, type } = fields[field]!;
      const { kinds, starts, ends } = tokens;
      return fieldError(name, type, kinds[index]!, starts[index]!, ends[index]!, valueStart);
    });
    return {
      row,
      flags: flags.map((flag) => findings.flagNames[flag]!),
      error: `The event cannot be used: ${clauses.join('; ')}.`,
    };
  }
}

function ownsOffset(input: BronzeRows, row: number, { count, owned }: BucketSelection): boolean {
  if (owned === undefined) return true;
  const words = input.offsetWords;
  const partition = input.partitions[row]!;
  return owned.has(bucketOfOffset(partition, words[2 * row]!, words[2 * row + 1]!, count));
}
