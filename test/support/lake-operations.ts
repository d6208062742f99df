/** Batch operations on a pipeline's lake, in the test's process, as the commands run them. */
import type { TestContext } from 'node:test';
import { systemAmbient } from '../../src/ambient.ts';
import { silentLogger } from '../../src/logger.ts';
import { EditedLake } from '../../src/operations/silver-edit/edited-lake.ts';
import type { PipelineConfig } from '../../src/pipeline/pipeline-config.ts';
import type { ObjectStore } from '../../src/storage/object-store/object-store.ts';
import { openFsObjectStore } from '../../src/storage/object-store/fs-object-store.ts';
import { createParquetCodec } from '../../src/storage/parquet/parquet-wasm-codec.ts';
import { LakeCatalog } from '../../src/storage/query/lake-catalog.ts';

/**
 * Opens the lake of a pipeline in a folder.
 * @param link what the operation sees of the store; default: the store
 */
export async function openEditedLake(
  t: TestContext,
  config: PipelineConfig,
  link: (store: ObjectStore) => ObjectStore = (store) => store,
): Promise<EditedLake> {
  if (config.lake.kind !== 'fs') throw new Error('only lakes in a folder');
  const services = { ambient: systemAmbient, logger: silentLogger };
  const opened = await openFsObjectStore({ path: config.lake.path, ...services });
  t.after(() => opened.close());
  const store = link(opened);
  const catalog = new LakeCatalog({ store, codec: createParquetCodec(), ...services });
  return EditedLake.open({
    config,
    store,
    catalog,
    ...services,
    signal: new AbortController().signal,
    onProgress: () => {},
  });
}
