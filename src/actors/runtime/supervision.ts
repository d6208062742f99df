/**
 * What to do with an actor that crashed: a pure decision from its error's kind and its history.
 *
 * Invariants:
 * - SV1 `fenced`, `corrupt` and `invalid` never restart: the first has lost its right to the work, the
 *   others would fail the same way again and must be seen (P8).
 * - SV2 `unavailable` restarts without end: an outage is waited out, with backoff and jitter.
 * - SV3 `internal` restarts at most `restartsMax` times within `windowMs`, then escalates.
 * - SV4 Whoever ran for `stableMs` since its last restart begins its delays anew.
 */
import type { ErrorKind } from '../../errors.ts';

export interface RestartPolicy {
  readonly backoffMinMs: number;
  readonly backoffMaxMs: number;
  /** Share of the delay that is random, 0 to 1. */
  readonly jitter: number;
  readonly restartsMax: number;
  readonly windowMs: number;
  readonly stableMs: number;
}

/** Back within a second for a first crash; five crashes in a minute are a bug for the parent. */
export const DEFAULT_RESTART_POLICY: RestartPolicy = {
  backoffMinMs: 100,
  backoffMaxMs: 10_000,
  jitter: 0.2,
  restartsMax: 5,
  windowMs: 60_000,
  stableMs: 5_000,
};

/** Bugs so far, oldest first, how many lives in a row were short, and when the last one began. */
export interface CrashHistory {
  readonly crashTimesMs: readonly number[];
  readonly consecutive: number;
  /** Monotonic. */
  readonly restartedAtMs: number;
}

export const NO_CRASHES: CrashHistory = { crashTimesMs: [], consecutive: 0, restartedAtMs: 0 };

export type Directive =
  | { readonly kind: 'restart'; readonly delayMs: number; readonly history: CrashHistory }
  | { readonly kind: 'stop' }
  | { readonly kind: 'escalate' };

/**
 * Decides about one crash.
 * @param nowMs monotonic
 * @param random uniform in [0, 1)
 */
export function superviseCrash(
  kind: ErrorKind,
  history: CrashHistory,
  policy: RestartPolicy,
  nowMs: number,
  random: number,
): Directive {
  if (kind === 'fenced' || kind === 'corrupt' || kind === 'invalid') return { kind: 'stop' };
  const recent = history.crashTimesMs.filter((time) => nowMs - time < policy.windowMs);
  // SV4
  const wasStable = nowMs - history.restartedAtMs >= policy.stableMs;
  const consecutive = wasStable ? 1 : history.consecutive + 1;
  const crashTimesMs = kind === 'internal' ? [...recent, nowMs] : recent;
  if (crashTimesMs.length > policy.restartsMax) return { kind: 'escalate' };
  const exponential = Math.min(
    policy.backoffMaxMs,
    policy.backoffMinMs * 2 ** Math.min(consecutive - 1, 20),
  );
  const delayMs = exponential * (1 - policy.jitter + policy.jitter * 2 * random);
  const restartedAtMs = nowMs + delayMs;
  return { kind: 'restart', delayMs, history: { crashTimesMs, consecutive, restartedAtMs } };
}
