/**
 * Classes of types whose values are hashed alike, so that a widened column keeps its hashes. Pure.
 */
import type { DataType } from '../types.ts';

/** Stored hashes depend on these numbers: they must not change. */
const CLASSES = {
  string: 1,
  binary: 2,
  byte: 3,
  short: 3,
  integer: 3,
  long: 3,
  float: 4,
  double: 4,
  decimal: 5,
  date: 6,
  timestamp: 7,
  boolean: 8,
  array: 9,
  map: 10,
  struct: 11,
} as const;

/** The class of a type, a small number. */
export function typeClass(type: DataType): number {
  return CLASSES[type.kind === 'primitive' ? type.name : type.kind];
}

/** Whether values of the type can identify an event. */
export function canIdentify(type: DataType): boolean {
  return typeClass(type) < CLASSES.boolean;
}
