/**
 * What the `table` commands share: the tables that a command line means, and times as it gives them.
 */
import { parseDurationMs } from '../config/quantity.ts';
import { nearest } from '../config/nearest.ts';
import {
  type HousekeepingLake,
  type NamedTable,
  openNamedTables,
} from '../operations/housekeeping/lake-tables.ts';
import { type OptionSpec, usageError } from './command.ts';
import type { OpenLake } from './lake.ts';

/** The lake of a command as operations take it. */
export function housekeepingLake({ config, delta, catalog }: OpenLake): HousekeepingLake {
  return { config, delta, open: (root) => catalog.table(root) };
}

/** The table that a command names. @throws PipelineError invalid when there is none of that name */
export async function namedTable(lake: HousekeepingLake, name: string): Promise<NamedTable> {
  const tables = await openNamedTables(lake);
  const found = tables.find((one) => one.name === name.replace('/', '.'));
  if (found) return found;
  const names = tables.map((one) => one.name);
  const meant = nearest(name, names);
  const known =
    names.length === 0 ? 'The lake has no tables yet.' : `The lake has ${names.join(', ')}.`;
  throw usageError(`There is no table ${name}${meant ? `; did you mean ${meant}?` : '.'} ${known}`);
}

/** The named table, or all of them. @throws PipelineError invalid */
export async function chosenTables(
  lake: HousekeepingLake,
  name: string | undefined,
  all: boolean,
): Promise<readonly NamedTable[]> {
  if (all === (name !== undefined)) throw usageError('Name a table, or give --all.');
  return name === undefined ? openNamedTables(lake) : [await namedTable(lake, name)];
}

/** `--name 168h`: a duration in milliseconds. */
export function duration<Fallback extends number | undefined>(
  summary: string,
  fallbackMs: Fallback,
): OptionSpec<number | Fallback> {
  return {
    value: 'SPAN',
    summary,
    fallback: fallbackMs,
    repeatable: false,
    parse: (given, _before, name) => {
      const ms = parseDurationMs(given);
      if (ms !== undefined) return ms;
      throw usageError(`${name} takes a duration such as 168h or 7d; "${given}" is none.`);
    },
  };
}
