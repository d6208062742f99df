/**
 * Primitive types of the Kafka protocol, in the classic and the compact ("flexible", KIP-482)
 * encoding. Pure. Source: Kafka documentation, "Protocol Primitive Types".
 */
import { PipelineError } from '../../errors.ts';

/** Appends protocol primitives to a growing buffer. */
export class WireWriter {
  /** Whether strings, arrays and structs are written compact and with tagged fields. */
  readonly flexible: boolean;
  #buffer = Buffer.allocUnsafe(512);
  #end = 0;

  constructor(flexible: boolean) {
    this.flexible = flexible;
  }

  #reserve(bytes: number): number {
    const at = this.#end;
    this.#end += bytes;
    if (this.#end > this.#buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(this.#end, this.#buffer.length * 2));
      grown.set(this.#buffer.subarray(0, at));
      this.#buffer = grown;
    }
    return at;
  }

  int8(value: number): this {
    const at = this.#reserve(1);
    this.#buffer.writeInt8(value, at);
    return this;
  }

  int16(value: number): this {
    const at = this.#reserve(2);
    this.#buffer.writeInt16BE(value, at);
    return this;
  }

  int32(value: number): this {
    const at = this.#reserve(4);
    this.#buffer.writeInt32BE(value, at);
    return this;
  }

  int64(value: bigint): this {
    const at = this.#reserve(8);
    this.#buffer.writeBigInt64BE(value, at);
    return this;
  }

  raw(bytes: Uint8Array): this {
    const at = this.#reserve(bytes.length);
    this.#buffer.set(bytes, at);
    return this;
  }

  string(value: string): this {
    const bytes = Buffer.from(value);
    return (this.flexible ? this.#unsigned(bytes.length + 1) : this.int16(bytes.length)).raw(bytes);
  }

  nullString(): this {
    return this.flexible ? this.#unsigned(0) : this.int16(-1);
  }

  /** Length-prefixed bytes, as record sets are sent. */
  bytes(value: Uint8Array): this {
    return (this.flexible ? this.#unsigned(value.length + 1) : this.int32(value.length)).raw(value);
  }

  array<T>(items: readonly T[], write: (item: T) => void): this {
    if (this.flexible) this.#unsigned(items.length + 1);
    else this.int32(items.length);
    for (const item of items) write(item);
    return this;
  }

  /** @param hex a UUID, 8-4-4-4-12 */
  uuid(hex: string): this {
    return this.raw(Buffer.from(hex.replaceAll('-', ''), 'hex'));
  }

  /** Ends a struct: no tagged fields. */
  endStruct(): this {
    return this.flexible ? this.#unsigned(0) : this;
  }

  #unsigned(value: number): this {
    let rest = value;
    for (; rest > 0x7f; rest >>>= 7) this.#byte((rest & 0x7f) | 0x80);
    return this.#byte(rest);
  }

  #byte(value: number): this {
    const at = this.#reserve(1);
    this.#buffer[at] = value;
    return this;
  }

  finish(): Buffer {
    return this.#buffer.subarray(0, this.#end);
  }
}

/**
 * Reads protocol primitives in order.
 * Every method throws PipelineError unavailable when the response ends too early: a response that
 * was cut off is a broken connection, not broken data.
 */
export class WireReader {
  readonly flexible: boolean;
  readonly #buffer: Buffer;
  #at = 0;

  constructor(buffer: Buffer, flexible: boolean) {
    this.#buffer = buffer;
    this.flexible = flexible;
  }

  #take(bytes: number): number {
    const at = this.#at;
    if (bytes < 0 || at + bytes > this.#buffer.length) {
      throw new PipelineError(
        'unavailable',
        'TM_SOURCE_UNAVAILABLE',
        'Kafka sent a response that cannot be read',
        { context: { position: at, size: this.#buffer.length } },
      );
    }
    this.#at = at + bytes;
    return at;
  }

  int8(): number {
    return this.#buffer.readInt8(this.#take(1));
  }

  int16(): number {
    return this.#buffer.readInt16BE(this.#take(2));
  }

  int32(): number {
    return this.#buffer.readInt32BE(this.#take(4));
  }

  int64(): bigint {
    return this.#buffer.readBigInt64BE(this.#take(8));
  }

  /** @returns a view into the response */
  raw(bytes: number): Buffer {
    const at = this.#take(bytes);
    return this.#buffer.subarray(at, at + bytes);
  }

  nullableString(): string | null {
    const size = this.flexible ? this.#unsigned() - 1 : this.int16();
    return size < 0 ? null : this.raw(size).toString();
  }

  string(): string {
    return this.nullableString() ?? '';
  }

  /** @returns a view into the response; empty for null */
  bytes(): Buffer {
    const size = this.flexible ? this.#unsigned() - 1 : this.int32();
    return this.raw(Math.max(size, 0));
  }

  /** Null reads as empty. */
  array<T>(read: () => T): T[] {
    const count = this.flexible ? this.#unsigned() - 1 : this.int32();
    const items: T[] = [];
    for (let i = 0; i < count; i++) items.push(read());
    return items;
  }

  /** @returns 8-4-4-4-12, lower case */
  uuid(): string {
    const hex = this.raw(16).toString('hex');
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  }

  /** Ends a struct; hands its tagged fields to `onField`, which need not read them. */
  endStruct(onField?: (tag: number, field: WireReader) => void): void {
    if (!this.flexible) return;
    for (let left = this.#unsigned(); left > 0; left--) {
      const tag = this.#unsigned();
      const field = this.raw(this.#unsigned());
      onField?.(tag, new WireReader(field, true));
    }
  }

  #unsigned(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 0x80) {
      const byte = this.#buffer[this.#take(1)]!;
      value += (byte & 0x7f) * scale;
      if (byte <= 0x7f || scale > 2 ** 28) return value;
    }
  }
}
