/**
 * Columns kept as they are instead of as Parquet: a fiftieth of the cost, so that many more seeds fit
 * into a run. A share of the seeds uses the real codec.
 */
import { deserialize, serialize } from 'node:v8';
import { PipelineError } from '../../src/errors.ts';
import { nullVector } from '../../src/pipeline/column-builder.ts';
import type { ColumnBatch } from '../../src/pipeline/columns.ts';
import type { ParquetCodec } from '../../src/storage/parquet/parquet-codec.ts';

/** @see ParquetCodec */
export const plainCodec: ParquetCodec = {
  encode: (batch) => new Uint8Array(serialize(batch)),
  decode: (bytes, schema) => {
    let stored: ColumnBatch;
    try {
      stored = deserialize(bytes) as ColumnBatch;
    } catch (cause) {
      throw new PipelineError('corrupt', 'TM_PARQUET_CORRUPT', 'not a stored batch', { cause });
    }
    const byName = new Map(stored.schema.fields.map(({ name }, i) => [name, stored.columns[i]!]));
    return {
      schema,
      length: stored.length,
      columns: schema.fields.map(
        ({ name, type }) => byName.get(name) ?? nullVector(type, stored.length),
      ),
    };
  },
};
