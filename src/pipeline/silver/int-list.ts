/** A list of 32-bit integers that grows; for side tables of the hot path. Pure. */
export class IntList {
  length = 0;
  values = new Int32Array(64);

  push(value: number): void {
    if (this.length === this.values.length) this.#grow(1);
    this.values[this.length++] = value;
  }

  /** Appends five values at once. */
  push5(a: number, b: number, c: number, d: number, e: number): void {
    if (this.length + 5 > this.values.length) this.#grow(5);
    const { values, length } = this;
    values[length] = a;
    values[length + 1] = b;
    values[length + 2] = c;
    values[length + 3] = d;
    values[length + 4] = e;
    this.length = length + 5;
  }

  /** Appends `count` values of `source` from `start` on. */
  pushFrom(source: Uint32Array, start: number, count: number): void {
    if (this.length + count > this.values.length) this.#grow(count);
    const { values, length } = this;
    for (let i = 0; i < count; i++) values[length + i] = source[start + i]!;
    this.length = length + count;
  }

  /** Makes room for `length` values in all. */
  reserve(length: number): void {
    if (length > this.values.length) this.#grow(length - this.length);
  }

  truncate(length: number): void {
    this.length = length;
  }

  #grow(more: number): void {
    const grown = new Int32Array(Math.max(this.values.length * 2, this.length + more));
    grown.set(this.values.subarray(0, this.length));
    this.values = grown;
  }
}
