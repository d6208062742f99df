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
 * Source: parquet.thrift (FileMetaData); Thrift compact protocol.
 */
import { PipelineError } from '../../errors.ts';

const MAGIC = 0x31524150;
const TAIL_BYTES = 8;
/** Deeper nesting is not a Parquet footer; it would only exhaust the stack. */
const DEPTH_MAX = 32;

/** Types of the compact protocol. */
const TRUE = 1;
const FALSE = 2;
const BYTE = 3;
const I16 = 4;
const I32 = 5;
const I64 = 6;
const DOUBLE = 7;
const BINARY = 8;
const LIST = 9;
const SET = 10;
const MAP = 11;
const STRUCT = 12;
const UUID = 13;

function corrupt(message: string): PipelineError {
  return new PipelineError(
    'corrupt',
    'TM_PARQUET_CORRUPT',
    `not a readable Parquet file: ${message}`,
  );
}

/** Where a value lies in the footer, its field header excluded. */
interface Span {
  readonly type: number;
  readonly start: number;
  readonly end: number;
}

/** A struct's fields by id. */
type Fields = ReadonlyMap<number, Span>;

class CompactReader {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** The fields of the struct at `start`. */
  fields(span: { readonly start: number }): Fields {
    const fields = new Map<number, Span>();
    this.#walk(span.start, 0, fields);
    return fields;
  }

  /** The elements of a list. */
  list(span: Span | undefined): Span[] {
    if (span === undefined) return [];
    if (span.type !== LIST) throw corrupt('a list was expected');
    let [{ count, type }, at] = this.#listHeader(span.start);
    const elements: Span[] = [];
    for (; count > 0; count--) {
      const end = this.#skip(type, at, 0, true);
      elements.push({ type, start: at, end });
      at = end;
    }
    return elements;
  }

  /** A signed integer of any width; positions and counts beyond 2^53 are not real. */
  integer(span: Span | undefined): number | undefined {
    if (span === undefined) return undefined;
    if (span.type !== I32 && span.type !== I64 && span.type !== I16) {
      throw corrupt('an integer was expected');
    }
    const [raw] = this.#varint(span.start);
    const value = raw % 2 === 0 ? raw / 2 : -(raw + 1) / 2;
    if (!Number.isSafeInteger(value)) throw corrupt('an integer is out of range');
    return value;
  }

  string(span: Span | undefined): string {
    if (span?.type !== BINARY) throw corrupt('a string was expected');
    const [length, at] = this.#varint(span.start);
    return new TextDecoder().decode(this.bytes.subarray(at, at + length));
  }

  #byte(at: number): number {
    const byte = this.bytes[at];
    if (byte === undefined) throw corrupt('the footer ends early');
    return byte;
  }

  /** Precise below 2^53, which `integer` checks. */
  #varint(start: number): readonly [value: number, end: number] {
    let value = 0;
    let scale = 1;
    let at = start;
    for (;;) {
      const byte = this.#byte(at++);
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return [value, at];
      scale *= 0x80;
      if (at - start >= 10) throw corrupt('an integer is too long');
    }
  }

  #listHeader(start: number): [{ readonly count: number; readonly type: number }, end: number] {
    const header = this.#byte(start);
    const type = header & 0x0f;
    const short = header >> 4;
    if (short < 15) return [{ count: short, type }, start + 1];
    const [count, end] = this.#varint(start + 1);
    // Every element takes at least one byte.
    if (count > this.bytes.length - end) throw corrupt('a list is longer than the footer');
    return [{ count, type }, end];
  }

  /** Walks a struct, noting its fields in `found`; returns its end. */
  #walk(start: number, depth: number, found?: Map<number, Span>): number {
    let at = start;
    let id = 0;
    for (;;) {
      const header = this.#byte(at++);
      if (header === 0) return at;
      const type = header & 0x0f;
      if (header >> 4 !== 0) {
        id += header >> 4;
      } else {
        const [raw, end] = this.#varint(at);
        id = raw % 2 === 0 ? raw / 2 : -(raw + 1) / 2;
        at = end;
      }
      const end = this.#skip(type, at, depth, false);
      found?.set(id, { type, start: at, end });
      at = end;
    }
  }

  /** The end of a value. A boolean field lies in its header, a boolean element takes a byte. */
  #skip(type: number, start: number, depth: number, isElement: boolean): number {
    if (depth > DEPTH_MAX) throw corrupt('the footer is nested too deeply');
    let end: number;
    switch (type) {
      case TRUE:
      case FALSE:
        end = isElement ? start + 1 : start;
        break;
      case BYTE:
        end = start + 1;
        break;
      case I16:
      case I32:
      case I64:
        end = this.#varint(start)[1];
        break;
      case DOUBLE:
        end = start + 8;
        break;
      case UUID:
        end = start + 16;
        break;
      case BINARY: {
        const [length, at] = this.#varint(start);
        end = at + length;
        break;
      }
      case LIST:
      case SET: {
        const [header, at] = this.#listHeader(start);
        end = at;
        for (let i = 0; i < header.count; i++) end = this.#skip(header.type, end, depth + 1, true);
        break;
      }
      case MAP: {
        const [count, at] = this.#varint(start);
        if (count > this.bytes.length - at) throw corrupt('a map is longer than the footer');
        end = count === 0 ? at : at + 1;
        const types = count === 0 ? 0 : this.#byte(at);
        for (let i = 0; i < count; i++) {
          end = this.#skip(types >> 4, end, depth + 1, true);
          end = this.#skip(types & 0x0f, end, depth + 1, true);
        }
        break;
      }
      case STRUCT:
        end = this.#walk(start, depth + 1);
        break;
      default:
        throw corrupt(`the footer has an unknown Thrift type ${type}`);
    }
    if (end > this.bytes.length) throw corrupt('the footer ends early');
    return end;
  }
}

/** Writes the structs that are rewritten, and copies what is not. */
class CompactWriter {
  readonly #source: Uint8Array;
  readonly #bytes: number[] = [];
  #lastId = 0;

  constructor(source: Uint8Array) {
    this.#source = source;
  }

  copy(id: number, span: Span | undefined): void {
    if (span === undefined) return;
    this.#header(id, span.type);
    this.#append(span);
  }

  integer(id: number, type: typeof I32 | typeof I64, value: number): void {
    this.#header(id, type);
    this.#varint(value * 2);
  }

  struct(id: number, fill: () => void): void {
    this.#header(id, STRUCT);
    this.element(fill);
  }

  /** A list whose elements `fill` writes, one call each, with `element` or `copyElement`. */
  structs<T>(id: number, items: readonly T[], fill: (item: T) => void): void {
    this.#header(id, LIST);
    if (items.length < 15) {
      this.#bytes.push((items.length << 4) | STRUCT);
    } else {
      this.#bytes.push(0xf0 | STRUCT);
      this.#varint(items.length);
    }
    for (const item of items) fill(item);
  }

  element(fill: () => void): void {
    const outerId = this.#lastId;
    this.#lastId = 0;
    fill();
    this.#bytes.push(0);
    this.#lastId = outerId;
  }

  copyElement(span: Span): void {
    this.#append(span);
  }

  finish(): Uint8Array {
    this.#bytes.push(0);
    return Uint8Array.from(this.#bytes);
  }

  #append(span: Span): void {
    for (let i = span.start; i < span.end; i++) this.#bytes.push(this.#source[i]!);
  }

  #header(id: number, type: number): void {
    this.#bytes.push(((id - this.#lastId) << 4) | type);
    this.#lastId = id;
  }

  #varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes.push((rest % 0x80) | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    this.#bytes.push(rest);
  }
}

/** Ids of the fields used, by struct. */
const FILE = { version: 1, schema: 2, rows: 3, rowGroups: 4, createdBy: 6 } as const;
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

/**
 * Cuts a file down to the top-level columns that `wanted` names and that it has.
 * @throws PipelineError corrupt TM_PARQUET_CORRUPT
 */
export function projectParquet(file: Uint8Array, wanted: ReadonlySet<string>): ProjectedFile {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < 4 + TAIL_BYTES) throw corrupt('it is too short');
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(file.length - 4, true) !== MAGIC) {
    throw corrupt('the magic bytes are missing');
  }
  const footerEnd = file.length - TAIL_BYTES;
  const footerStart = footerEnd - view.getUint32(footerEnd, true);
  if (footerStart < 4) throw corrupt('the footer is longer than the file');
  const reader = new CompactReader(file.subarray(footerStart, footerEnd));
  const fields = reader.fields({ start: 0 });
  const rows = reader.integer(fields.get(FILE.rows));
  if (rows === undefined || rows < 0) throw corrupt('the number of rows is missing');
  const schema = keepSchema(reader, fields.get(FILE.schema), wanted);
  if (schema.topLevel === 0) return { rows, bytes: undefined };
  let end = 4;
  const groups = reader.list(fields.get(FILE.rowGroups)).map((span): RowGroup => {
    const group = reader.fields(span);
    const columns = reader.list(group.get(GROUP.columns));
    const chunks = schema.leaves.map((leaf) => {
      const column = columns[leaf];
      if (column === undefined) throw corrupt('a row group lacks a column');
      const chunk = keepChunk(reader, column, { dataEnd: footerStart, to: end });
      end += chunk.size;
      return chunk;
    });
    return { fields: group, chunks };
  });
  const footer = writeFooter(reader.bytes, fields, schema, groups);
  const bytes = new Uint8Array(end + footer.length + TAIL_BYTES);
  const out = new DataView(bytes.buffer);
  out.setUint32(0, MAGIC, true);
  for (const { chunks } of groups) {
    for (const { from, size, to } of chunks) bytes.set(file.subarray(from, from + size), to);
  }
  bytes.set(footer, end);
  out.setUint32(end + footer.length, footer.length, true);
  out.setUint32(end + footer.length + 4, MAGIC, true);
  return { rows, bytes };
}

function keepSchema(
  reader: CompactReader,
  span: Span | undefined,
  wanted: ReadonlySet<string>,
): KeptSchema {
  const all = reader.list(span);
  if (all.length === 0) throw corrupt('the schema is missing');
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
    if (position >= all.length) throw corrupt('the schema ends early');
    const keep = wanted.has(reader.string(reader.fields(all[position]!).get(ELEMENT.name)));
    if (keep) topLevel++;
    for (let open = 1; open > 0; open--) {
      const element = all[position];
      const childCount = childCounts[position++];
      if (element === undefined || childCount === undefined || childCount < 0) {
        throw corrupt('the schema ends early');
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
  if (metadataSpan?.type !== STRUCT) throw corrupt('a column chunk lacks its metadata');
  if (chunk.has(CHUNK.path)) throw corrupt('a column chunk lies in another file');
  const metadata = reader.fields(metadataSpan);
  const size = reader.integer(metadata.get(META.size));
  const dataPage = reader.integer(metadata.get(META.dataPage));
  const dictionary = reader.integer(metadata.get(META.dictionaryPage));
  // Some writers put 0 for "none".
  const dictionaryPage = dictionary === undefined || dictionary <= 0 ? undefined : dictionary;
  if (size === undefined || dataPage === undefined) throw corrupt('a column chunk has no position');
  const from = Math.min(dataPage, dictionaryPage ?? dataPage);
  if (from < 4 || size < 0 || from + size > range.dataEnd || dataPage > from + size) {
    throw corrupt('a column chunk lies outside the file');
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
