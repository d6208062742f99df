/** What a drill works with; handed down by the command. */
import type { Ambient } from '../../ambient.ts';
import type { Adapters } from '../../cli/context.ts';
import type { Environment } from '../../config/yaml-document.ts';
import type { Logger } from '../../logger.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';

export interface DrillHost {
  readonly adapters: Adapters;
  readonly ambient: Ambient;
  readonly logger: Logger;
  readonly environment: Environment;
  /** Aborts when the user wants an end. */
  readonly signal: AbortSignal;
  /** The pipeline whose servers are used; undefined: everything embedded. Its tables and topic are not touched. */
  readonly base: PipelineConfig | undefined;
}
