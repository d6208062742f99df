/**
 * Cuts a Parquet file down to some of its columns: the wanted column chunks and a footer that knows
 * only them. The decoder reads every column of what it is given, so this is what makes reading one
 * column of twelve cost one column. Pure.
 *
 * Invariants:
 * - J1 Column chunks are copied byte for byte; only positions and lists of columns are rewritten.
 * - J2 The writer's own Arrow schema is left out, so that the types follow from Parquet alone: a
 *   string is a string whether its writer held it as large, viewed or dictionary-encoded.
 * - J3 No byte is read outside the file, however the footer lies.
 *
 * Source: parquet.thrift (FileMetaData).
 */
import {
  CompactReader,
  CompactWriter,
  corruptParquet,
  type Fields,
  I32,
  I64,
  type Span,
  STRUCT,
} from './thrift-compact.ts';

const MAGIC = 0x31524150;
const TAIL_BYTES = 8;
/** Ids of the fields used, by struct. */
const FILE = { version: 1, schema: 2, rows: 3, rowGroups: 4, keyValues: 5, createdBy: 6 } as const;
const ELEMENT = { name: 4, childCount: 5, last: 10 } as const;
const GROUP = { columns: 1, totalBytes: 2, rows: 3 } as const;
const CHUNK = { path: 1, fileOffset: 2, metadata: 3 } as const;
const META = { valueCount: 5, plainSize: 6, size: 7, dataPage: 9, dictionaryPage: 11 } as const;

/** A column chunk to keep and where it goes. */
interface Chunk {
  readonly metadata: Fields;
  readonly from: number;
  readonly size: number;
  readonly to: number;
  readonly dataPage: number;
  readonly dictionaryPage: number | undefined;
}

interface RowGroup {
  readonly fields: Fields;
  readonly chunks: readonly Chunk[];
}

/** The part of the schema that is kept: elements in order, and which leaves they stand for. */
interface KeptSchema {
  readonly root: Fields;
  readonly topLevel: number;
  readonly elements: readonly Span[];
  readonly leaves: readonly number[];
}

/** A file cut down to the wanted columns; `bytes` is absent when it has none of them. */
export interface ProjectedFile {
  readonly rows: number;
  readonly bytes: Uint8Array | undefined;
}

/** The footer's place in a file. */
interface FooterRange {
  readonly start: number;
  readonly end: number;
}

function findFooter(file: Uint8Array): FooterRange {
  if (file.length < 4 + TAIL_BYTES) throw corruptParquet('it is too short');
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(file.length - 4, true) !== MAGIC) {
    throw corruptParquet('the magic bytes are missing');
  }
  const end = file.length - TAIL_BYTES;
  const start = end - view.getUint32(end, true);
  if (start < 4) throw corruptParquet('the footer is longer than the file');
  return { start, end };
}

/** Puts a footer and the file's tail at `start`. */
function putFooter(file: Uint8Array, start: number, footer: Uint8Array): void {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  file.set(footer, start);
  view.setUint32(start + footer.length, footer.length, true);
  view.setUint32(start + footer.length + 4, MAGIC, true);
}

/**
 * Takes the key-value metadata out of a file's footer, in place: the encoder puts a copy of the
 * Arrow schema there, which repeats what the Parquet schema says and outweighs a small file's rows.
 * @returns a shorter view of the same memory
 */
export function withoutKeyValues(file: Uint8Array): Uint8Array {
  const { start, end } = findFooter(file);
  const reader = new CompactReader(file.subarray(start, end));
  const writer = new CompactWriter(reader.bytes);
  for (const [id, span] of reader.fields({ start: 0 })) {
    if (id !== FILE.keyValues) writer.copy(id, span);
  }
  const footer = writer.finish();
  putFooter(file, start, footer);
  return file.subarray(0, start + footer.length + TAIL_BYTES);
}

/**
 * Cuts a file down to the top-level columns that `wanted` names and that it has.
 * @throws PipelineError corrupt TM_PARQUET_CORRUPT
 */
export function projectParquet(file: Uint8Array, wanted: ReadonlySet<string>): ProjectedFile {
  const { start: footerStart, end: footerEnd } = findFooter(file);
  const reader = new CompactReader(file.subarray(footerStart, footerEnd));
  const fields = reader.fields({ start: 0 });
  const rows = reader.integer(fields.get(FILE.rows));
  if (rows === undefined || rows < 0) throw corruptParquet('the number of rows is missing');
  const schema = keepSchema(reader, fields.get(FILE.schema), wanted);
  if (schema.topLevel === 0) return { rows, bytes: undefined };
  let end = 4;
  const groups = reader.list(fields.get(FILE.rowGroups)).map((span): RowGroup => {
    const group = reader.fields(span);
    const columns = reader.list(group.get(GROUP.columns));
    const chunks = schema.leaves.map((leaf) => {
      const column = columns[leaf];
      if (column === undefined) throw corruptParquet('a row group lacks a column');
      const chunk = keepChunk(reader, column, { dataEnd: footerStart, to: end });
      end += chunk.size;
      return chunk;
    });
    return { fields: group, chunks };
  });
  const footer = writeFooter(reader.bytes, fields, schema, groups);
  const bytes = new Uint8Array(end + footer.length + TAIL_BYTES);
  new DataView(bytes.buffer).setUint32(0, MAGIC, true);
  for (const { chunks } of groups) {
    for (const { from, size, to } of chunks) bytes.set(file.subarray(from, from + size), to);
  }
  putFooter(bytes, end, footer);
  return { rows, bytes };
}

function keepSchema(
  reader: CompactReader,
  span: Span | undefined,
  wanted: ReadonlySet<string>,
): KeptSchema {
  const all = reader.list(span);
  if (all.length === 0) throw corruptParquet('the schema is missing');
  const childCounts = all.map(
    (element) => reader.integer(reader.fields(element).get(ELEMENT.childCount)) ?? 0,
  );
  const root = reader.fields(all[0]!);
  const elements: Span[] = [];
  const leaves: number[] = [];
  let topLevel = 0;
  let position = 1;
  let leaf = 0;
  for (let i = 0; i < childCounts[0]!; i++) {
    if (position >= all.length) throw corruptParquet('the schema ends early');
    const keep = wanted.has(reader.string(reader.fields(all[position]!).get(ELEMENT.name)));
    if (keep) topLevel++;
    for (let open = 1; open > 0; open--) {
      const element = all[position];
      const childCount = childCounts[position++];
      if (element === undefined || childCount === undefined || childCount < 0) {
        throw corruptParquet('the schema ends early');
      }
      open += childCount;
      if (keep) elements.push(element);
      if (childCount > 0) continue;
      if (keep) leaves.push(leaf);
      leaf++;
    }
  }
  return { root, topLevel, elements, leaves };
}

function keepChunk(
  reader: CompactReader,
  span: Span,
  range: { readonly dataEnd: number; readonly to: number },
): Chunk {
  const chunk = reader.fields(span);
  const metadataSpan = chunk.get(CHUNK.metadata);
  if (metadataSpan?.type !== STRUCT) throw corruptParquet('a column chunk lacks its metadata');
  if (chunk.has(CHUNK.path)) throw corruptParquet('a column chunk lies in another file');
  const metadata = reader.fields(metadataSpan);
  const size = reader.integer(metadata.get(META.size));
  const dataPage = reader.integer(metadata.get(META.dataPage));
  const dictionary = reader.integer(metadata.get(META.dictionaryPage));
  // Some writers put 0 for "none".
  const dictionaryPage = dictionary === undefined || dictionary <= 0 ? undefined : dictionary;
  if (size === undefined || dataPage === undefined)
    throw corruptParquet('a column chunk has no position');
  const from = Math.min(dataPage, dictionaryPage ?? dataPage);
  if (from < 4 || size < 0 || from + size > range.dataEnd || dataPage > from + size) {
    throw corruptParquet('a column chunk lies outside the file');
  }
  return { metadata, from, size, to: range.to, dataPage, dictionaryPage };
}

function writeFooter(
  source: Uint8Array,
  fields: Fields,
  schema: KeptSchema,
  groups: readonly RowGroup[],
): Uint8Array {
  const writer = new CompactWriter(source);
  writer.copy(FILE.version, fields.get(FILE.version));
  writer.structs(FILE.schema, [undefined, ...schema.elements], (element) => {
    if (element !== undefined) return writer.copyElement(element);
    writer.element(() => {
      for (let id = 1; id <= ELEMENT.last; id++) {
        if (id === ELEMENT.childCount) writer.integer(id, I32, schema.topLevel);
        else writer.copy(id, schema.root.get(id));
      }
    });
  });
  writer.copy(FILE.rows, fields.get(FILE.rows));
  writer.structs(FILE.rowGroups, groups, (group) =>
    writer.element(() => {
      writer.structs(GROUP.columns, group.chunks, (chunk) =>
        writer.element(() => writeChunk(writer, chunk)),
      );
      writer.copy(GROUP.totalBytes, group.fields.get(GROUP.totalBytes));
      writer.copy(GROUP.rows, group.fields.get(GROUP.rows));
    }),
  );
  writer.copy(FILE.createdBy, fields.get(FILE.createdBy));
  return writer.finish();
}

function writeChunk(writer: CompactWriter, chunk: Chunk): void {
  const shift = chunk.to - chunk.from;
  writer.integer(CHUNK.fileOffset, I64, 0);
  writer.struct(CHUNK.metadata, () => {
    for (let id = 1; id <= META.size; id++) writer.copy(id, chunk.metadata.get(id));
    writer.integer(META.dataPage, I64, chunk.dataPage + shift);
    if (chunk.dictionaryPage !== undefined) {
      writer.integer(META.dictionaryPage, I64, chunk.dictionaryPage + shift);
    }
  });
}
