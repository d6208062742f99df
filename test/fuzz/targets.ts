/** Every fuzz target. */
import { logCheckpoints, logEntries, logHints } from './delta-log.ts';
import { embeddedLog } from './embedded-log.ts';
import type { FuzzTarget } from './fuzz-target.ts';
import { jsonValues } from './json-values.ts';
import { parquetStats } from './parquet-stats.ts';
import { pipelineFile } from './pipeline-file.ts';
import { recordBatches } from './record-batches.ts';
import { restBodies } from './rest-bodies.ts';
import { dedupHeads, dedupManifests, fileTags } from './stored-texts.ts';

export const FUZZ_TARGETS: readonly FuzzTarget[] = [
  logEntries,
  logHints,
  logCheckpoints,
  parquetStats,
  jsonValues,
  pipelineFile,
  recordBatches,
  restBodies,
  embeddedLog,
  dedupManifests,
  dedupHeads,
  fileTags,
];
