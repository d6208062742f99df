/** Appends the input of `run --input` to the embedded source. */
import type { PipelineConfig } from '../pipeline/pipeline-config.ts';
import { EmbeddedLog } from '../storage/source/embedded-log.ts';
import { ingestNdjson } from '../storage/source/ndjson-ingest.ts';
import type { CommandContext } from './context.ts';

/**
 * Appends NDJSON files in the order given; `-` is stdin.
 * @throws PipelineError invalid (no such file) | unavailable (disk full, another writer)
 */
export async function ingestFiles(
  context: CommandContext,
  config: PipelineConfig,
  inputs: readonly string[],
  arrivalField: string | undefined,
): Promise<void> {
  const { source } = config;
  if (inputs.length === 0 || source.kind !== 'embedded') return;
  const log = await EmbeddedLog.open(source, context);
  try {
    for (const input of inputs) {
      const { undatedLines } = await ingestNdjson(
        {
          log,
          input: input === '-' ? context.stdin : input,
          keyField: source.key,
          arrivalField,
          maxRecordBytes: source.maxRecordBytes,
          signal: context.signal,
        },
        context,
      );
      if (undatedLines > 0) {
        context.terminal.note(
          `${input}: ${undatedLines} lines without a readable ${arrivalField}; their time is now`,
        );
      }
    }
  } finally {
    await log.close();
  }
}
