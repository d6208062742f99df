/**
 * Writes schema/pipeline.schema.json from the zod schema of the pipeline file.
 * A test fails while the published file is stale.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipelineJsonSchema } from '../src/config/pipeline-file.ts';

const file = join(import.meta.dirname, '..', 'schema', 'pipeline.schema.json');
writeFileSync(file, `${JSON.stringify(pipelineJsonSchema(), null, 2)}\n`);
