/**
 * Named places in the crash sequences at which a test may end or stop the process. Production passes them
 * for the price of one look at a variable (CP1); main.ts arms them when TIDEMARK_CRASH_AT is set
 * (crash-striker.ts), and a simulation may listen in.
 *
 * CP1 Nobody listens unless somebody said so, and what is listening can only end or delay the process.
 * Source: faults.md section 1; design section 3.
 */

/** The variable that names a place and how to end there. */
export const CRASH_VARIABLE = 'TIDEMARK_CRASH_AT';

/**
 * By who passes them: `w` the way into bronze, `s` into dead letters and silver, `g` into gold, `m`
 * maintenance, `v` supervision. `…sent` is the moment before a request leaves, `…acked` after its answer.
 */
export const CRASH_POINTS = [
  'w.fetch.received',
  'w.decode.done',
  'w.batch.sealed',
  'w.parquet.encoded',
  'w.file.put.sent',
  'w.file.put.acked',
  'w.snapshot.read',
  'w.commit.put.sent',
  'w.commit.put.acked',
  'w.redis.offset.set',
  'w.queue.added',
  'w.kafka.offsetcommit',
  's.job.taken',
  's.upstream.read',
  's.rows.derived',
  's.file.put.acked',
  's.commit.put.sent',
  's.commit.put.acked',
  's.job.completed',
  'g.job.taken',
  'g.upstream.read',
  'g.rows.derived',
  'g.file.put.acked',
  'g.commit.put.sent',
  'g.commit.put.acked',
  'g.job.completed',
  'm.checkpoint.part',
  'm.checkpoint.put',
  'm.crc.written',
  'm.lastcheckpoint.put',
  'm.cleanup.deleted',
  'm.vacuum.deleted',
  'm.compact.commit',
  'v.lease.taken',
  'v.assign.saved',
  'v.worker.spawned',
  'v.rebalance.revoked',
  'v.rebalance.assigned',
  'v.shutdown.drain',
] as const;

export type CrashPoint = (typeof CRASH_POINTS)[number];

let listener: ((point: CrashPoint) => void) | undefined;

/** This place is passed now. */
export function crashPoint(point: CrashPoint): void {
  listener?.(point); // CP1
}

/** Has `passed` called for every place that is passed; undefined ends that. */
export function listenToCrashPoints(passed: ((point: CrashPoint) => void) | undefined): void {
  listener = passed;
}

/** The stage whose commits go to the table at `root`; dead letters are silver's. */
export function stageOf(root: string): 'w' | 's' | 'g' {
  if (root.startsWith('gold/')) return 'g';
  return root.startsWith('silver/') || root.endsWith('_dlq') ? 's' : 'w';
}
