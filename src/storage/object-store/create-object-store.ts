/** Chooses the adapter that a pipeline's `lake` names. */
import type { Ambient } from '../../ambient.ts';
import type { Logger } from '../../logger.ts';
import type { LakeConfig } from '../../pipeline/pipeline-config.ts';
import type { ObjectStore } from './object-store.ts';

/**
 * Opens the lake's store. Does not probe it: commands that only read must not write.
 * @throws PipelineError unavailable | invalid (no folder, no credentials)
 */
export async function createObjectStore(
  lake: LakeConfig,
  options: { readonly ambient: Ambient; readonly logger: Logger },
): Promise<ObjectStore> {
  // Loaded on demand: the AWS SDK alone would double the start-up time of a command on local tables.
  switch (lake.kind) {
    case 'fs': {
      const { openFsObjectStore } = await import('./fs-object-store.ts');
      return openFsObjectStore({ path: lake.path, ...options });
    }
    case 's3': {
      const { openS3ObjectStore } = await import('./s3-object-store.ts');
      return openS3ObjectStore({ lake, ambient: options.ambient });
    }
  }
}
