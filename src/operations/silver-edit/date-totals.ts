/**
 * Totals of gold by date, worked out from silver rows with the classes that make gold: what an edit
 * would change, before it does. Pure.
 *
 * Counts and sums add up over windows and groups; averages, extremes and distinct counts do not, so
 * they are left out.
 */
import { rowsFromColumns } from '../../pipeline/column-builder.ts';
import type { ColumnBatch } from '../../pipeline/columns.ts';
import { GoldAggregator } from '../../pipeline/gold/gold-aggregator.ts';
import type { AggregateConfig, EventConfig } from '../../pipeline/pipeline-config.ts';
import { dateText } from '../../pipeline/progress.ts';

/** One aggregate's totals on one date; `values` by measure, decimals and 64-bit integers exact. */
export interface DateTotal {
  readonly aggregate: string;
  readonly date: string;
  readonly values: Readonly<Record<string, number | bigint | null>>;
}

const DAY_MS = 86_400_000;

/** Adds up silver rows per aggregate and UTC date of their event time. */
export class DateTotals {
  readonly #aggregators: ReadonlyMap<string, GoldAggregator>;
  readonly #measures = new Map<string, readonly string[]>();

  constructor(aggregates: readonly AggregateConfig[], event: EventConfig) {
    this.#aggregators = new Map(
      aggregates.map((aggregate) => {
        const measures = aggregate.measures.filter(({ fn }) => fn === 'count' || fn === 'sum');
        this.#measures.set(
          aggregate.name,
          measures.map(({ name }) => name),
        );
        const daily = { name: aggregate.name, windowMs: DAY_MS, groupBy: [], measures };
        return [aggregate.name, new GoldAggregator(daily, event)];
      }),
    );
  }

  /** @param batch silver rows */
  add(batch: ColumnBatch): void {
    for (const aggregator of this.#aggregators.values()) {
      for (const slot of aggregator.slotsTouched(batch)) {
        if (!aggregator.isResident(slot)) aggregator.create(slot);
      }
      aggregator.add(batch);
    }
  }

  /** Everything added so far, by aggregate and date. */
  totals(): DateTotal[] {
    const meta = { source: 'streaming', isFinal: false, revision: 0, silverVersion: 0n } as const;
    return [...this.#aggregators].flatMap(([aggregate, aggregator]) =>
      aggregator
        .residentSlots()
        .sort((a, b) => a - b)
        .flatMap((slot) =>
          rowsFromColumns(aggregator.rows(slot, meta)).map((row): DateTotal => {
            const values = this.#measures.get(aggregate)!.map((name) => [name, row[name] ?? null]);
            const micros = row['window_start'] as bigint;
            const date = dateText(Math.floor(Number(micros) / (DAY_MS * 1000)));
            return {
              aggregate,
              date,
              values: Object.fromEntries(values) as DateTotal['values'],
            };
          }),
        ),
    );
  }
}
