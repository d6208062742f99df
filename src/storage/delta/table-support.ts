/**
 * Which tables this version may read and write. Pure.
 * Source: PROTOCOL.md "Protocol Evolution", "Table Features", "Column Invariants".
 *
 * S1 A table that needs more than reader 1 / writer 2 is refused, naming what it needs: writing to it
 *    as if the feature were not there would corrupt it.
 * S2 A column with `delta.invariants` is refused, because the invariant could not be checked.
 */
import { PipelineError } from '../../errors.ts';
import type { StructType } from '../../pipeline/types.ts';
import type { MetadataAction, ProtocolAction } from './actions.ts';
import { fieldsOf } from './schema-json.ts';

/** What every table of ours declares. */
export const OUR_PROTOCOL: ProtocolAction = { minReaderVersion: 1, minWriterVersion: 2 };

/** Features that writer version 2 implies, so that writer 7 with only these is the same table. */
const KNOWN_FEATURES: ReadonlySet<string> = new Set(['appendOnly', 'invariants']);

/** @throws PipelineError invalid (S1) */
export function requireSupportedProtocol(protocol: ProtocolAction): void {
  const { minReaderVersion: reader, minWriterVersion: writer } = protocol;
  const listed = [...(protocol.readerFeatures ?? []), ...(protocol.writerFeatures ?? [])];
  const unknown = listed.filter((feature) => !KNOWN_FEATURES.has(feature));
  if (unknown.length > 0) throw unsupported(`the feature ${[...new Set(unknown)].join(', ')}`);
  if (reader !== 1 && reader !== 3) throw unsupported(`reader version ${reader}`);
  if (writer !== 1 && writer !== 2 && writer !== 7) throw unsupported(`writer version ${writer}`);
}

/** @throws PipelineError invalid (S2, or a format other than Parquet) */
export function requireSupportedMetadata(metadata: MetadataAction, schema: StructType): void {
  if (metadata.format.provider !== 'parquet') {
    throw unsupported(`the file format ${metadata.format.provider}`);
  }
  for (const { path, field } of fieldsOf(schema)) {
    if (field.metadata && Object.hasOwn(field.metadata, 'delta.invariants')) {
      throw unsupported(`delta.invariants of column ${path}`);
    }
  }
}

function unsupported(what: string): PipelineError {
  return new PipelineError(
    'invalid',
    'TM_LOG_UNSUPPORTED',
    `the table needs ${what}, which this version of Tidemark cannot handle`,
  );
}
