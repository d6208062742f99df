/**
 * Sums of what members counted, that go on growing when members end, come back and count anew.
 */
import type { Member } from '../membership.ts';

export class CountTotals {
  readonly #totals = new Map<string, number>();
  #seen = new Map<string, Readonly<Record<string, number>>>();

  /** Takes in what the live members say now. */
  update(members: readonly Pick<Member, 'memberId' | 'counts' | 'restarts'>[]): void {
    const seen = new Map<string, Readonly<Record<string, number>>>();
    for (const { memberId, counts, restarts } of members) {
      const now = { ...counts, restarts };
      const before = this.#seen.get(memberId) ?? {};
      for (const [name, value] of Object.entries(now)) {
        const last = before[name] ?? 0;
        // Less than before: the member began again.
        const growth = value >= last ? value - last : value;
        this.#totals.set(name, this.of(name) + growth);
      }
      seen.set(memberId, now);
    }
    this.#seen = seen;
  }

  of(name: string): number {
    return this.#totals.get(name) ?? 0;
  }

  /** Names that start with `prefix`. */
  names(prefix: string): readonly string[] {
    return [...this.#totals.keys()].filter((name) => name.startsWith(prefix));
  }
}
