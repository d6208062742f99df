/** What batch operations are given by a command: the open lake, and progress on a terminal. */
import type { OperationContext } from '../operations/silver-edit/edited-lake.ts';
import type { CommandContext } from './context.ts';
import type { OpenLake } from './lake.ts';
import { groupDigits } from './text-table.ts';

/** The world of one operation. */
export function operationContext(context: CommandContext, lake: OpenLake): OperationContext {
  const { ambient, logger, signal, terminal } = context;
  const { config, store, catalog } = lake;
  let current = '';
  let startedMs = 0;
  return {
    config,
    store,
    catalog,
    ambient,
    logger,
    signal,
    onProgress(what, rows, rowsAll) {
      const nowMs = ambient.clock.monotonicMs();
      if (what !== current) {
        current = what;
        startedMs = nowMs;
      }
      const seconds = Math.max(0.001, (nowMs - startedMs) / 1000);
      const rate = rows / seconds;
      const left = rate > 0 ? Math.ceil(Math.max(0, rowsAll - rows) / rate) : 0;
      terminal.progress(
        `${what}: ${groupDigits(rows)} of ${groupDigits(rowsAll)} records ` +
          `(${groupDigits(Math.round(rate))}/s, ${left} s left)`,
      );
    },
  };
}
