/**
 * Opens what commands that read the lake need, and closes it whatever happens.
 */
import type { PipelineConfig } from '../pipeline/pipeline-config.ts';
import type { ObjectStore } from '../storage/object-store/object-store.ts';
import type { DeltaEnvironment } from '../storage/delta/delta-table.ts';
import { LakeCatalog } from '../storage/query/lake-catalog.ts';
import type { LakeQuery } from '../storage/query/lake-query.ts';
import { untilAvailable } from './availability.ts';
import type { CommandContext } from './context.ts';

export interface OpenLake {
  readonly config: PipelineConfig;
  readonly store: ObjectStore;
  readonly delta: DeltaEnvironment;
  readonly catalog: LakeCatalog;
  /** Opened at the first call. */
  readonly query: () => Promise<LakeQuery>;
}

/** Runs `use` with the pipeline's lake. @throws PipelineError of opening it or of `use` */
export async function withLake<T>(
  context: CommandContext,
  use: (lake: OpenLake) => Promise<T>,
): Promise<T> {
  const config = context.loadConfig();
  const { adapters, ambient, logger } = context;
  const store = await untilAvailable(context, () => adapters.openStore(config));
  let query: LakeQuery | undefined;
  try {
    const codec = await adapters.openCodec();
    const delta = { store, codec, ambient, logger };
    return await use({
      config,
      store,
      delta,
      catalog: new LakeCatalog(delta),
      query: async () => (query ??= await adapters.openQuery({ config, store, codec })),
    });
  } finally {
    await query?.close();
    await store.close();
  }
}
