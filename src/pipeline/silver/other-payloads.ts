/**
 * The payload hashes that a row would have under other declared schemas. An event that came before a
 * schema change and comes again after it has other typed columns and another `_rescued`, and yet is
 * the same event; only its hash under the schema of the first copy can show that (P5). Pure.
 */
import { type Vector } from '../columns.ts';
import type { EventConfig } from '../pipeline-config.ts';
import { field, primitive, struct } from '../types.ts';
import type { BronzeRows } from './bronze-rows.ts';
import { EventStage } from './event-stage.ts';
import { EVENT_OK } from './event-tokenizer.ts';
import { BytesBuilder } from './growable-scalars.ts';
import { hashRows } from './payload-hash.ts';
import { RESCUED } from './tables.ts';

/** The payload hash of every slot of a stage whose fields are decoded, two words per slot. */
export function hashStage(stage: EventStage, rescued: Vector): Uint32Array {
  const fields = [...stage.fields, field(RESCUED, 'string')];
  const columns = [...stage.fields.map((_, i) => stage.column(i)), rescued];
  const names = fields.map(({ name }) => name);
  return hashRows({ schema: struct(fields), length: stage.slots, columns }, names);
}

/** Derives single rows again, under each of some other schemas. */
export class OtherPayloads {
  readonly schemas: readonly EventStage[];
  readonly #rescued = new BytesBuilder(primitive('string'));

  /** @param events the other schemas, with the same id field */
  constructor(events: readonly EventConfig[]) {
    this.schemas = events.map((event) => new EventStage(event, 1));
  }

  /**
   * The row's payload hash under one of `schemas`, two words.
   * @returns undefined when the schema does not take it as an event
   */
  of(schema: EventStage, input: BronzeRows, row: number): Uint32Array | undefined {
    const { data, offsets } = input.rawValue;
    schema.begin(data!);
    if (schema.read(offsets![row]!, offsets![row + 1]!) !== EVENT_OK) return undefined;
    schema.keep(schema.takeId());
    schema.decodeFields();
    this.#rescued.reset();
    schema.findings.writeRescued(this.#rescued, 1);
    return hashStage(schema, this.#rescued.view());
  }
}
