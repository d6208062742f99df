/** `tidemark checkpoint ls`: the newest checkpoints of the pipeline. */
import { PipelineCheckpoints } from '../operations/checkpoints/pipeline-checkpoint.ts';
import { defineCommand, EXIT, integer } from './command.ts';
import { withLake } from './lake.ts';
import { housekeepingLake } from './table-choice.ts';
import { textTable } from './text-table.ts';

export const checkpointLsCommand = defineCommand({
  name: 'checkpoint ls',
  summary: 'offsets and table versions that belong together, newest first',
  options: { limit: integer('checkpoints to show', { min: 1, max: 1_000, fallback: 20 }) },
  example: 'tidemark checkpoint ls -c pipeline.yaml',
  run: (context, { options }) =>
    withLake(context, async (open) => {
      const checkpoints = new PipelineCheckpoints(housekeepingLake(open));
      const numbers = (await checkpoints.numbers()).slice(-options.limit).toReversed();
      const found = await Promise.all(numbers.map((number) => checkpoints.read(number)));
      await context.terminal.result(found, (style) =>
        textTable(
          [
            { title: 'checkpoint', align: 'right' },
            { title: 'time' },
            { title: 'offsets' },
            { title: 'tables' },
          ],
          found.map(({ checkpoint, createdAt, offsets, tables }) => [
            String(checkpoint),
            createdAt,
            Object.entries(offsets)
              .map(([partition, next]) => `${partition}:${next}`)
              .join(' '),
            tables.map(({ table, version }) => `${table}=${version}`).join(' '),
          ]),
          style.bold,
        ),
      );
      return EXIT.ok;
    }),
});
