/** `tidemark checkpoint show [N]`: one checkpoint of the pipeline, the newest by default. */
import { PipelineCheckpoints } from '../operations/checkpoints/pipeline-checkpoint.ts';
import { defineCommand, EXIT, usageError } from './command.ts';
import { withLake } from './lake.ts';
import { housekeepingLake } from './table-choice.ts';

export const checkpointShowCommand = defineCommand({
  name: 'checkpoint show',
  summary: 'one checkpoint: offsets, watermarks, table versions',
  arguments: '[number]',
  options: {},
  example: 'tidemark checkpoint show 12 -c pipeline.yaml',
  run: (context, { args }) =>
    withLake(context, async (open) => {
      const checkpoints = new PipelineCheckpoints(housekeepingLake(open));
      const [given] = args;
      if (given !== undefined && !/^\d{1,15}$/.test(given)) {
        throw usageError(`A checkpoint is a number; "${given}" is none.`);
      }
      const number = given === undefined ? (await checkpoints.numbers()).at(-1) : Number(given);
      if (number === undefined) throw usageError('There is no checkpoint yet; run the pipeline.');
      const found = await checkpoints.read(number);
      await context.terminal.result(found, () => JSON.stringify(found, null, 2));
      return EXIT.ok;
    }),
});
