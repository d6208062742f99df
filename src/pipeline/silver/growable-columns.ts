/**
 * Growable columns of the types with children, and the builder that belongs to a type (C1, C2).
 * Pure.
 */
import { entryTypeOf } from '../column-builder.ts';
import type { Vector } from '../columns.ts';
import type { DataType } from '../types.ts';
import { ColumnBuilder } from './growable-column.ts';
import { BooleanBuilder, BytesBuilder, FixedBuilder } from './growable-scalars.ts';

/**
 * Arrays, and maps as lists of (key, value): append the elements to `child`, then close the row.
 */
export class ListBuilder extends ColumnBuilder {
  readonly child: ColumnBuilder;
  #offsets = new Int32Array(1);

  constructor(type: DataType, child: ColumnBuilder) {
    super(type);
    this.child = child;
  }

  closeRow(): void {
    this.claimRow();
    this.#offsets[++this.length] = this.child.length;
  }

  protected override growTo(capacity: number): void {
    const offsets = new Int32Array(capacity + 1);
    offsets.set(this.#offsets);
    this.#offsets = offsets;
  }

  protected override appendNullValue(): void {
    this.#offsets[this.length + 1] = this.child.length;
  }

  protected override appendValues(source: Vector, rows: Int32Array, count: number): void {
    const from = source.offsets!;
    let total = 0;
    for (let i = 0; i < count; i++) total += from[rows[i]! + 1]! - from[rows[i]!]!;
    const childRows = new Int32Array(total);
    const before = this.child.length;
    let used = 0;
    for (let i = 0; i < count; i++) {
      const row = rows[i]!;
      for (let k = from[row]!; k < from[row + 1]!; k++) childRows[used++] = k;
      this.#offsets[this.length + i + 1] = before + used;
    }
    this.child.appendRows(source.children![0]!, childRows, total);
  }

  protected override truncateValues(): void {
    this.child.truncate(this.#offsets[this.length]!);
  }

  protected override viewValues(): Pick<Vector, 'offsets' | 'children'> {
    return {
      offsets: this.#offsets.subarray(0, this.length + 1),
      children: [this.child.view()],
    };
  }
}

/** Structs: append one row to each of `children`, then close the row. */
export class StructBuilder extends ColumnBuilder {
  readonly children: readonly ColumnBuilder[];

  constructor(type: DataType, children: readonly ColumnBuilder[]) {
    super(type);
    this.children = children;
  }

  closeRow(): void {
    this.claimRow();
    this.length++;
  }

  protected override growTo(): void {}

  protected override appendNullValue(): void {
    for (const child of this.children) child.appendNull();
  }

  protected override appendValues(source: Vector, rows: Int32Array, count: number): void {
    for (const [index, child] of this.children.entries()) {
      child.appendRows(source.children![index]!, rows, count);
    }
  }

  protected override truncateValues(): void {
    for (const child of this.children) child.truncate(this.length);
  }

  protected override viewValues(): Pick<Vector, 'children'> {
    return { children: this.children.map((child) => child.view()) };
  }
}

/** A builder for any type. */
export function builderFor(type: DataType): ColumnBuilder {
  switch (type.kind) {
    case 'decimal':
      return new FixedBuilder(type);
    case 'array':
      return new ListBuilder(type, builderFor(type.element));
    case 'map':
      return new ListBuilder(type, builderFor(entryTypeOf(type)));
    case 'struct':
      return new StructBuilder(
        type,
        type.fields.map((f) => builderFor(f.type)),
      );
    case 'primitive':
      if (type.name === 'string' || type.name === 'binary') return new BytesBuilder(type);
      return type.name === 'boolean' ? new BooleanBuilder(type) : new FixedBuilder(type);
  }
}
