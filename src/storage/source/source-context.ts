/** What the source adapters are made from. */
import type { Ambient } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';
import type { Logger } from '../../logger.ts';
import type { SourceConfig } from '../../pipeline/pipeline-config.ts';

/** The Kafka variant of the source's settings. */
export type KafkaSourceConfig = Extract<SourceConfig, { readonly kind: 'kafka' }>;

/** The embedded variant of the source's settings. */
export type EmbeddedSourceConfig = Extract<SourceConfig, { readonly kind: 'embedded' }>;

/** What every part of an adapter needs from outside. */
export interface SourceContext {
  readonly ambient: Ambient;
  readonly logger: Logger;
}

/** The source or reader was closed while something was under way. */
export function stopped(): PipelineError {
  return new PipelineError('unavailable', 'TM_STOPPED', 'the event source was closed');
}
