/**
 * The parts of a value that fit a zod schema when the whole does not. Pure.
 */
import { z } from 'zod';

/** `T` where any part may be missing because it did not parse. */
export type Salvaged<T> = T extends readonly (infer Item)[]
  ? readonly (Salvaged<Item> | undefined)[]
  : T extends object
    ? { readonly [Key in keyof T]?: Salvaged<T[Key]> | undefined }
    : T;

/** Parses what can be parsed; parts that cannot are undefined. */
export function salvage<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
): Salvaged<z.output<Schema>> {
  return (salvagePart(schema, value) ?? {}) as Salvaged<z.output<Schema>>;
}

function salvagePart(schema: z.core.$ZodType, value: unknown): unknown {
  const parsed = z.safeParse(schema, value);
  if (parsed.success) return parsed.data;
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault) {
    return salvagePart(schema.def.innerType, value);
  }
  if (schema instanceof z.ZodPrefault) return salvagePart(schema.def.innerType, value);
  if (schema instanceof z.ZodArray && Array.isArray(value)) {
    return value.map((item) => salvagePart(schema.def.element, item));
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const members = value as Readonly<Record<string, unknown>>;
  if (schema instanceof z.ZodObject) {
    const shape = schema.def.shape as Readonly<Record<string, z.core.$ZodType>>;
    return Object.fromEntries(
      Object.entries(shape).map(([key, part]) => [key, salvagePart(part, members[key])]),
    );
  }
  if (schema instanceof z.ZodRecord) {
    const { valueType } = schema.def;
    return Object.fromEntries(
      Object.entries(members).map(([key, member]) => [key, salvagePart(valueType, member)]),
    );
  }
  if (schema instanceof z.ZodDiscriminatedUnion) {
    const { discriminator, options } = schema.def;
    const meant = options.find(
      (option) =>
        option instanceof z.ZodObject &&
        z.safeParse(option.def.shape[discriminator]!, members[discriminator]).success,
    );
    return meant && salvagePart(meant, value);
  }
  if (schema instanceof z.ZodUnion) {
    const mapping = schema.def.options.find((option) => option instanceof z.ZodObject);
    return mapping && salvagePart(mapping, value);
  }
  return undefined;
}
