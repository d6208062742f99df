/**
 * The error taxonomy. Expected outcomes are return values; what is thrown is a PipelineError whose
 * kind alone decides what the caller does (style E1 to E4).
 */

/**
 * What a caller does about a failure:
 * - `unavailable`: a service does not answer now; back off and retry.
 * - `fenced`: another incarnation owns the work; stop this one, never retry.
 * - `corrupt`: stored data contradicts itself; stop the affected part and tell the operator.
 * - `invalid`: the input or configuration is wrong; refuse it with the remedy.
 * - `internal`: a bug; crash the actor, the supervisor restarts it.
 */
export type ErrorKind = 'unavailable' | 'fenced' | 'corrupt' | 'invalid' | 'internal';

/** Fields that tell where a failure happened. Never record values, never credentials. */
export type ErrorContext = Readonly<Record<string, string | number | bigint | boolean | undefined>>;

/** The one error class of Tidemark. */
export class PipelineError extends Error {
  readonly kind: ErrorKind;
  /** Stable, searchable code, for example `TM_OFFSET_OUT_OF_RANGE`. */
  readonly code: ErrorCode;
  readonly context: ErrorContext;

  constructor(
    kind: ErrorKind,
    code: ErrorCode,
    message: string,
    options: { readonly context?: ErrorContext; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = 'PipelineError';
    this.kind = kind;
    this.code = code;
    this.context = options.context ?? {};
  }
}

/** Every error code, declared once. */
export const ERROR_CODES = [
  'TM_CONFIG_INVALID',
  'TM_USAGE',
  'TM_SERVICE_UNAVAILABLE',
  'TM_STORE_UNAVAILABLE',
  'TM_STORE_IGNORES_CONDITION',
  'TM_STORE_DENIED',
  'TM_OBJECT_MISSING',
  'TM_LOG_CORRUPT',
  'TM_LOG_UNSUPPORTED',
  'TM_CHECKPOINT_CORRUPT',
  'TM_COMMIT_UNKNOWN',
  'TM_COMMIT_FENCED',
  'TM_SCHEMA_MISMATCH',
  'TM_MEASURE_OVERFLOW',
  'TM_PARQUET_CORRUPT',
  'TM_DEDUP_INDEX_CORRUPT',
  'TM_SOURCE_UNAVAILABLE',
  'TM_SOURCE_DENIED',
  'TM_TOPIC_MISSING',
  'TM_TOPIC_RECREATED',
  'TM_OFFSET_OUT_OF_RANGE',
  'TM_RECORD_BATCH_CORRUPT',
  'TM_RECORD_BATCH_UNSUPPORTED',
  'TM_STATE_UNAVAILABLE',
  'TM_STATE_UNSAFE',
  'TM_QUEUE_UNAVAILABLE',
  'TM_DISK_FULL',
  'TM_STOPPED',
  'TM_INTERNAL',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** Narrows anything thrown to a PipelineError; what is unknown becomes `internal`. */
export function asPipelineError(thrown: unknown): PipelineError {
  if (thrown instanceof PipelineError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new PipelineError('internal', 'TM_INTERNAL', message, { cause: thrown });
}

/**
 * Stays on in production: a violated assumption crashes the actor instead of corrupting a table.
 * @throws PipelineError internal
 */
export function assert(
  condition: unknown,
  message: string,
  context?: ErrorContext,
): asserts condition {
  if (!condition) {
    throw new PipelineError(
      'internal',
      'TM_INTERNAL',
      `assertion failed: ${message}`,
      context ? { context } : {},
    );
  }
}
