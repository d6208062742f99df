/** Appends the input of `run --input` to the embedded source. */
import type { PipelineConfig } from '../pipeline/pipeline-config.ts';
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
  if (inputs.length === 0) return;
  const log = await context.adapters.openInputLog(config);
  try {
    for (const input of inputs) {
      const { undatedLines } = await log.append({
        input: input === '-' ? context.stdin : input,
        arrivalField,
        signal: context.signal,
      });
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
