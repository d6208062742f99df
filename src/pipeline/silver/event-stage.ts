/**
 * The rows of one sub-batch on their way from JSON text to typed columns: a token table filled
 * event by event, then one pass per column over it. Pure.
 *
 * E1 Slots are dense: an event that is refused, or not wanted, leaves its slot to the next one.
 * E2 After `decodeFields` every declared field has a row for every slot; what was not taken is null
 *    and noted in `findings`.
 */
import { assert, PipelineError } from '../../errors.ts';
import type { Vector } from '../columns.ts';
import type { EventConfig } from '../pipeline-config.ts';
import type { DataType, StructField } from '../types.ts';
import { InstantParser } from './civil-time.ts';
import { type DecodeContext, type FieldDecoder, NO_VALUE } from './decoder.ts';
import { EventTokenizer } from './event-tokenizer.ts';
import { decoderFor } from './field-decoder.ts';
import { FINGERPRINT_WORDS, IdHasher } from './fingerprints.ts';
import { BytesBuilder, FixedBuilder } from './growable-scalars.ts';
import { JsonScanner, rawEnd, rawStart, TokenTable } from './json-scanner.ts';
import {
  FLAG_INVALID_TIME,
  FLAG_MISSING_ID,
  FLAG_MISSING_TIME,
  RowFindings,
} from './row-findings.ts';
import { EpochDecoder } from './scalar-decoders.ts';
import { ByteScratch } from './string-text.ts';

/** Typed columns and findings of up to `rowsMax` events. */
export class EventStage {
  readonly scanner = new JsonScanner();
  readonly tokens: TokenTable;
  readonly findings: RowFindings;
  /** FINGERPRINT_WORDS words per slot; the first four are set by `takeId`. */
  readonly fingerprints: Uint32Array;
  /** Declared fields, and the places of the id and the time among them. */
  readonly fields: readonly StructField[];
  readonly idField: number;
  readonly timeField: number;
  readonly #tokenizer: EventTokenizer;
  readonly #decoders: readonly FieldDecoder[];
  readonly #idHasher: IdHasher;
  readonly #timeBuilder: FixedBuilder;
  #slots = 0;

  /** @throws PipelineError invalid when id, time or a field's type cannot be used */
  constructor(event: EventConfig, rowsMax: number) {
    this.fields = event.schema.fields;
    const names = this.fields.map((f) => f.name);
    this.idField = declared(names, event.id, 'event.id');
    this.timeField = declared(names, event.time.field, 'event.time');
    this.tokens = new TokenTable(rowsMax * names.length);
    this.findings = new RowFindings(names, rowsMax);
    this.fingerprints = new Uint32Array(rowsMax * FINGERPRINT_WORDS);
    this.#tokenizer = new EventTokenizer(this.scanner, this.tokens, names);
    const context: DecodeContext = {
      scanner: this.scanner,
      scratch: new ByteScratch(),
      instants: new InstantParser(),
      nested: this.findings,
    };
    this.#decoders = this.fields.map(({ type }, index) =>
      index === this.timeField && event.time.unit !== 'rfc3339'
        ? new EpochDecoder(type, event.time.unit, context)
        : decoderFor(type, context),
    );
    this.#idHasher = new IdHasher(this.fields[this.idField]!.type);
    const timeType = this.fields[this.timeField]!.type;
    const timeBuilder = this.#decoders[this.timeField]!.builder;
    if (this.idField === this.timeField) {
      throw new PipelineError(
        'invalid',
        'TM_CONFIG_INVALID',
        `event.id and event.time both name ${event.id}; a time does not identify an event`,
      );
    }
    if (timeType.kind !== 'primitive' || timeType.name !== 'timestamp') {
      throw new PipelineError(
        'invalid',
        'TM_CONFIG_INVALID',
        `event.time: declare the field ${event.time.field} as timestamp`,
      );
    }
    assert(timeBuilder instanceof FixedBuilder, 'timestamps have fixed width');
    this.#timeBuilder = timeBuilder;
  }

  /** Slots that hold an event. */
  get slots(): number {
    return this.#slots;
  }

  /** Empties the stage for rows whose text is in `data`. */
  begin(data: Uint8Array): void {
    this.#slots = 0;
    this.scanner.setData(data);
    this.#tokenizer.unknown.truncate(0);
    this.findings.begin(data);
    for (const decoder of this.#decoders) decoder.builder.reset();
  }

  /** Reads an event into the next slot; it stays there only if `keep` follows. */
  read(start: number, end: number): number {
    this.scanner.end = end;
    return this.#tokenizer.read(this.#slots, start);
  }

  /**
   * Takes the id of the event just read and hashes it.
   * @returns false when it has none: absent, null, of another type, or empty
   */
  takeId(): boolean {
    const slot = this.#slots;
    const decoder = this.#decoders[this.idField]!;
    const index = slot * this.fields.length + this.idField;
    if (decoder.appendRun(this.tokens, index, 1, 1) === 0) {
      decoder.builder.appendNull();
      return false;
    }
    const { builder } = decoder;
    const at = slot * FINGERPRINT_WORDS;
    if (builder instanceof BytesBuilder) {
      const start = builder.offset(slot);
      const end = builder.offset(slot + 1);
      if (start === end) {
        builder.truncate(slot);
        builder.appendNull();
        return false;
      }
      this.#idHasher.hashBytes(builder.data(), start, end, this.fingerprints, at);
    } else if (builder instanceof FixedBuilder) {
      this.#idHasher.hashFixed(builder.words(), slot, this.fingerprints, at);
    }
    return true;
  }

  /** Gives up the event just read after `takeId`. */
  drop(): void {
    this.#decoders[this.idField]!.builder.truncate(this.#slots);
    this.#tokenizer.dropUnknown(this.#slots);
  }

  /** Keeps the event just read after `takeId`. */
  keep(hasId: boolean): void {
    const slot = this.#slots++;
    if (!hasId) this.findings.addFlag(slot, FLAG_MISSING_ID);
    if (this.#tokenizer.duplicateNames) this.findings.noteDuplicateNames(slot);
  }

  /** Decodes all fields but the id, which is decoded, for all slots (E2). */
  decodeFields(): void {
    this.scanner.end = this.scanner.data.length;
    this.#decodeTime();
    for (let field = 0; field < this.fields.length; field++) {
      if (field !== this.idField && field !== this.timeField) this.#decodeField(field);
    }
    this.findings.unknownTopLevel(this.#tokenizer.unknown);
  }

  /** A declared field's column; valid until `begin`. */
  column(field: number): Vector {
    return this.#decoders[field]!.builder.view();
  }

  /** Low and high words of the event times. */
  timeWords(): Int32Array {
    return this.#timeBuilder.words();
  }

  #decodeTime(): void {
    const { timeField } = this;
    const decoder = this.#decoders[timeField]!;
    for (let slot = this.#decodeRun(timeField, 0); slot < this.#slots; ) {
      const isMissing = decoder.verdict === NO_VALUE;
      decoder.builder.appendNull();
      this.findings.addFlag(slot, isMissing ? FLAG_MISSING_TIME : FLAG_INVALID_TIME);
      slot = this.#decodeRun(timeField, slot + 1);
    }
  }

  #decodeField(field: number): void {
    if (isNested(this.fields[field]!.type)) {
      this.#decodeNested(field);
      return;
    }
    for (let slot = this.#decodeRun(field, 0); slot < this.#slots; ) {
      this.#refuse(slot, field);
      slot = this.#decodeRun(field, slot + 1);
    }
  }

  /** Decodes from `slot` on; returns the first slot whose value was not taken. */
  #decodeRun(field: number, slot: number): number {
    const stride = this.fields.length;
    const index = slot * stride + field;
    return slot + this.#decoders[field]!.appendRun(this.tokens, index, stride, this.#slots - slot);
  }

  #decodeNested(field: number): void {
    const decoder = this.#decoders[field]!;
    const stride = this.fields.length;
    for (let slot = 0; slot < this.#slots; slot++) {
      this.findings.beginField(slot, field);
      if (decoder.appendRun(this.tokens, slot * stride + field, stride, 1) === 1) continue;
      this.findings.undoField();
      this.#refuse(slot, field);
    }
  }

  #refuse(slot: number, field: number): void {
    const { builder, verdict } = this.#decoders[field]!;
    if (verdict !== NO_VALUE) {
      builder.truncate(slot);
      const { kinds, starts, ends } = this.tokens;
      const index = slot * this.fields.length + field;
      const kind = kinds[index]!;
      const start = rawStart(kind, starts[index]!);
      this.findings.refused(slot, field, verdict, start, rawEnd(kind, ends[index]!));
    }
    builder.appendNull();
    if (!this.fields[field]!.nullable) this.findings.missingRequired(slot, field);
  }
}

function isNested(type: DataType): boolean {
  return type.kind === 'array' || type.kind === 'map' || type.kind === 'struct';
}

function declared(names: readonly string[], name: string, key: string): number {
  const index = names.indexOf(name);
  if (index < 0) {
    throw new PipelineError(
      'invalid',
      'TM_CONFIG_INVALID',
      `${key}: event.schema.fields does not declare ${name}`,
    );
  }
  return index;
}
